package config

// This file serves programs on the flag package, until the last of them is a Program.

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
)

// ParseFlags is flags.Parse with errors that show a flag as it was typed, and the nearest one that there is. After --help the
// error is flag.ErrHelp, and flags.Usage has run.
func ParseFlags(flags *flag.FlagSet, args []string) error {
	for _, arg := range args {
		if arg == "--help" || arg == "-help" || arg == "-h" {
			if flags.Usage != nil {
				flags.Usage()
			}
			return flag.ErrHelp
		}
	}
	output, usage := flags.Output(), flags.Usage
	flags.SetOutput(io.Discard) // The flag package would print its errors itself, and the whole help behind each.
	flags.Usage = func() {}
	err := flags.Parse(args)
	flags.SetOutput(output)
	flags.Usage = usage
	if err != nil {
		return explain(flags, args, err)
	}
	return nil
}

// Usage writes the variables as a table for --help.
func Usage(w io.Writer, vars []Variable) { printVariables(w, vars) }

// explain says what is wrong with the arguments. The flag package writes every flag with one dash and knows no near ones.
func explain(flags *flag.FlagSet, args []string, err error) error {
	text := err.Error()
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
		var known []string
		flags.VisitAll(func(f *flag.Flag) { known = append(known, f.Name) })
		near := Nearest(name, known)
		if near != "" {
			near = "; did you mean --" + near + "?"
		}
		return fmt.Errorf("there is no flag %s%s", typed(args, name), near)
	}
	if name, ok := strings.CutPrefix(text, "flag needs an argument: -"); ok {
		return fmt.Errorf("%s needs a value", typed(args, name))
	}
	for _, prefix := range []string{"invalid value ", "invalid boolean value "} {
		rest, ok := strings.CutPrefix(text, prefix)
		if !ok {
			continue
		}
		for _, behind := range []string{" for flag -", " for -"} {
			if value, rest, ok := strings.Cut(rest, behind); ok {
				name, why, _ := strings.Cut(rest, ": ")
				return fmt.Errorf("%s: %s %s", typed(args, name), value, strings.TrimPrefix(allowed(flags.Lookup(name), why), ": "))
			}
		}
	}
	return errors.New(text)
}

// typed is the argument that names the flag, without its value.
func typed(args []string, name string) string {
	for _, arg := range args {
		given, _, _ := strings.Cut(arg, "=")
		if given == "-"+name || given == "--"+name {
			return given
		}
	}
	return "--" + name
}

// allowed says what a flag takes. The flag package says "parse error" of whatever it reads itself.
func allowed(f *flag.Flag, why string) string {
	if why != "parse error" && why != "value out of range" || f == nil {
		return why
	}
	if getter, ok := f.Value.(flag.Getter); ok {
		switch getter.Get().(type) {
		case bool:
			return "must be true or false"
		case int, int64, uint, uint64:
			return "must be a whole number"
		case float64:
			return "must be a number"
		}
	}
	return "must be a duration such as 250ms, 15s or 1h30m"
}
