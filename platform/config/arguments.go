package config

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"reflect"
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

// parseArguments takes arguments apart as package flag does, but that flags may also follow what is no flag. It returns
// the values of the flags that were given, by their names with two dashes. What is no flag goes into the field with the
// tag args. The error is the first mistake, or flag.ErrHelp.
func parseArguments(settings []setting, args []string) (given map[string]string, err error) {
	given = make(map[string]string)
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	for _, s := range settings {
		keep := func(value string) error { given[s.flag()] = value; return nil }
		switch {
		case s.Flag == "":
		case s.Value == "":
			flags.BoolFunc(s.Flag, s.Help, keep)
		default:
			flags.Func(s.Flag, s.Help, keep)
		}
	}
	var rest []string
	for len(args) > 0 {
		if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
			return nil, err
		} else if err != nil {
			return nil, argumentError(err.Error())
		}
		left := flags.Args()
		if n := len(args) - len(left); n > 0 && args[n-1] == "--" {
			rest = append(rest, left...)
			break
		}
		if args = left; len(args) > 0 {
			rest, args = append(rest, args[0]), args[1:]
		}
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
		return nil, argumentError(fmt.Sprintf("there is no argument %q", rest[0]))
	}
	return given, nil
}
