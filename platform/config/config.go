// Package config reads a program's settings from environment variables into a struct, and is the shape of every main.
//
// A field says all about its variable in tags; a struct without an env tag is flattened, so that a package brings its own
// settings (postgres.Config, kafka.Config) and a program only lists what it uses:
//
//	type Config struct {
//		Addr  string   `env:"ORDERS_ADDR" envDefault:":8080" help:"address of the HTTP API"`
//		Kafka kafka.Config
//	}
//
// A variable that is set to nothing counts as not set. Elements of lists are separated by commas. Every bad variable is
// named in one error, so that a wrong setting is repaired in one round.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"text/tabwriter"

	"github.com/caarlos0/env/v11"
)

// Validator is a configuration struct (or a struct within one) that checks what a type alone cannot express. Its error
// should name the variable.
type Validator interface{ Validate() error }

// Defaulter is a configuration struct whose defaults, by the variables' names, replace those in the tags of the structs
// within it: a service has its own database where postgres.Config cannot know one.
type Defaulter interface{ Defaults() map[string]string }

// Variable describes one environment variable.
type Variable struct{ Name, Default, Help string }

// Load reads T from the environment of the process.
func Load[T any]() (T, error) { return LoadFrom[T](env.ToMap(os.Environ())) }

// LoadFrom reads T from the given variables. Its error names each variable that is bad.
func LoadFrom[T any](lookup map[string]string) (T, error) {
	var cfg T
	var errs []error
	walk(reflect.ValueOf(&cfg).Elem(), defaults[T](), func(field reflect.Value, tag reflect.StructTag, v Variable) {
		if err := set(field, tag, v.Name, cmp.Or(lookup[v.Name], v.Default)); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", v.Name, err))
			_ = set(field, tag, v.Name, v.Default) // So that Validate has nothing more to say about it.
		}
	}, func(v Validator) {
		if err := v.Validate(); err != nil {
			errs = append(errs, err)
		}
	})
	if len(errs) > 0 {
		return cfg, fmt.Errorf("bad configuration: %w", errors.Join(errs...))
	}
	return cfg, nil
}

// Variables lists the variables of T in the order of its fields.
func Variables[T any]() []Variable {
	var cfg T
	var vars []Variable
	walk(reflect.ValueOf(&cfg).Elem(), defaults[T](), func(_ reflect.Value, _ reflect.StructTag, v Variable) {
		vars = append(vars, v)
	}, func(Validator) {})
	return vars
}

// Usage writes the variables as a table for --help.
func Usage(w io.Writer, vars []Variable) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, v := range vars {
		fmt.Fprintf(table, "  %s\t%s\t%s\n", v.Name, v.Default, v.Help)
	}
	table.Flush()
}

func defaults[T any]() map[string]string {
	var cfg T
	if d, ok := any(cfg).(Defaulter); ok {
		return d.Defaults()
	}
	return nil
}

// walk visits the variables of a struct, then the struct itself if it has something to check, innermost structs first.
func walk(s reflect.Value, defaults map[string]string,
	variable func(reflect.Value, reflect.StructTag, Variable), check func(Validator)) {
	for i := range s.NumField() {
		field, info := s.Field(i), s.Type().Field(i)
		name := info.Tag.Get("env")
		switch {
		case name != "":
			def, ok := defaults[name]
			if !ok {
				def = info.Tag.Get("envDefault")
			}
			variable(field, info.Tag, Variable{Name: name, Default: def, Help: info.Tag.Get("help")})
		case field.Kind() == reflect.Struct && info.IsExported():
			walk(field, defaults, variable, check)
		}
	}
	if v, ok := s.Addr().Interface().(Validator); ok {
		check(v)
	}
}

// set parses one value. The field is handed to the env package in a struct of its own, because that package's errors name
// fields, not variables, and a field's name need not be unique.
func set(field reflect.Value, tag reflect.StructTag, name, value string) error {
	if value == "" {
		return nil
	}
	single := reflect.New(reflect.StructOf([]reflect.StructField{{Name: "Value", Type: field.Type(), Tag: tag}}))
	err := env.ParseWithOptions(single.Interface(), env.Options{Environment: map[string]string{name: value}})
	if parse := (env.ParseError{}); errors.As(err, &parse) {
		return fmt.Errorf("%q: %w", value, parse.Err)
	}
	if err != nil {
		return err
	}
	parsed := single.Elem().Field(0)
	if list, ok := parsed.Interface().([]string); ok {
		parsed = reflect.ValueOf(trim(list))
	}
	field.Set(parsed)
	return nil
}

// trim forgives blanks and a trailing comma in a list.
func trim(list []string) []string {
	var kept []string
	for _, item := range list {
		if item = strings.TrimSpace(item); item != "" {
			kept = append(kept, item)
		}
	}
	return kept
}
