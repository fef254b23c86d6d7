package config

import (
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// argumentError is a mistake in the arguments other than a wrong value.
type argumentError string

func (e argumentError) Error() string { return string(e) }

// ExitStatus is the exit code for wrong arguments.
func (argumentError) ExitStatus() int { return exitWrong }

// isArgument tells whether an error is about the arguments, so that pointing at --help is of use.
func isArgument(err error) bool {
	wrong := (*Wrong)(nil)
	return errors.As(err, new(argumentError)) || errors.As(err, &wrong) && strings.HasPrefix(wrong.Name, "--")
}

// parseArguments takes arguments apart and returns the values of the flags that were given, by their names with two
// dashes. A flag begins with one dash or two; its value follows, or stands behind "=". After "--" nothing is a flag.
// What is no flag goes into the field with the tag args. The error is the first mistake.
func parseArguments(settings []setting, args []string) (given map[string]string, err error) {
	given = make(map[string]string)
	var rest []string
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			rest = append(rest, args...)
			break
		}
		name, ok := strings.CutPrefix(arg, "-")
		if !ok || name == "" {
			rest = append(rest, arg)
			continue
		}
		name, value, assigned := strings.Cut(strings.TrimPrefix(name, "-"), "=")
		i := slices.IndexFunc(settings, func(s setting) bool { return s.Flag == name && name != "" })
		if i < 0 {
			typed, _, _ := strings.Cut(arg, "=")
			return nil, argumentError("there is no flag " + typed + didYouMean("--"+name, flagNames(settings)))
		}
		switch s := settings[i]; {
		case assigned:
		case s.Value == "":
			value = "true"
		case len(args) == 0:
			return nil, &Wrong{Name: s.flag(), Must: "needs a value"}
		default:
			value, args = args[0], args[1:]
		}
		given["--"+name] = value
	}
	for _, s := range settings {
		if s.Required && given[s.flag()] == "" {
			return nil, &Wrong{Name: s.flag(), Must: "is missing"}
		}
		if s.Arguments != "" {
			s.field.Set(reflect.ValueOf(rest))
			rest = nil
		}
	}
	if len(rest) > 0 {
		return nil, argumentError("there is no argument " + strconv.Quote(rest[0]))
	}
	return given, nil
}

// flagNames lists the flags with their dashes.
func flagNames(settings []setting) (names []string) {
	for _, s := range settings {
		if s.Flag != "" {
			names = append(names, s.flag())
		}
	}
	return names
}
