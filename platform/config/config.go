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
// A variable that is set to nothing counts as not set. Elements of lists are separated by commas. One error names every bad
// variable with its value and what is allowed, so that wrong settings are repaired in one round.
package config

import (
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/caarlos0/env/v11"
)

// Validator is a configuration struct (or a struct within one) that checks what a type alone cannot express. It returns a
// *Wrong for each bad variable, joined by errors.Join.
type Validator interface{ Validate() error }

// Wrong is a variable whose value cannot be used. A program that ends with one exits with code 2, also when it notices the
// fault later than at its start, as with the content of a file that the variable names.
type Wrong struct {
	Name  string
	Value string // Load fills it in
	Must  string // what is allowed, such as "must be 1 to 65535"
	Err   error  // what lies behind it; may be nil
}

// Invalid returns the *Wrong of a variable. The format says what is allowed.
func Invalid(name, format string, args ...any) error {
	return &Wrong{Name: name, Must: fmt.Sprintf(format, args...)}
}

func (w *Wrong) Error() string {
	if w.Value == "" {
		return w.Name + " " + w.Must
	}
	return fmt.Sprintf("%s: %q %s", w.Name, w.Value, w.Must)
}

// Unwrap returns what lies behind it.
func (w *Wrong) Unwrap() error { return w.Err }

// Defaulter is a configuration struct whose defaults, by the variables' names, replace those in the tags of the structs
// within it: a service has its own database where postgres.Config cannot know one.
type Defaulter interface{ Defaults() map[string]string }

// Variable describes one environment variable.
type Variable struct {
	Name, Default, Help string
	// Secret values are never shown. The tag secret:"true" says so.
	Secret bool
}

// Load reads T from the environment of the process.
func Load[T any]() (T, error) { return LoadFrom[T](env.ToMap(os.Environ())) }

// LoadFrom reads T from the given variables. Its error names each variable that is bad.
func LoadFrom[T any](lookup map[string]string) (T, error) {
	var cfg T
	var errs []error
	fields := make(map[string]reflect.Value)
	walk(reflect.ValueOf(&cfg).Elem(), defaults[T](), func(field reflect.Value, tag reflect.StructTag, v Variable) {
		fields[v.Name] = field
		value := cmp.Or(lookup[v.Name], v.Default)
		if err := set(field, tag, v.Name, value); err != nil {
			errs = append(errs, &Wrong{Name: v.Name, Value: shown(v, value), Must: must(field.Type(), err), Err: err})
			_ = set(field, tag, v.Name, v.Default) // So that Validate has nothing more to say about it.
		}
	}, func(v Validator) {
		if err := v.Validate(); err != nil {
			errs = append(errs, flatten(err)...)
		}
	})
	if len(errs) == 0 {
		return cfg, nil
	}
	known := Variables[T]()
	for _, err := range errs {
		if wrong := (*Wrong)(nil); errors.As(err, &wrong) && wrong.Value == "" {
			if i := slices.IndexFunc(known, func(v Variable) bool { return v.Name == wrong.Name }); i >= 0 {
				wrong.Value = shown(known[i], cmp.Or(lookup[wrong.Name], text(fields[wrong.Name])))
			}
		}
	}
	return cfg, fmt.Errorf("bad configuration: %w", errors.Join(errs...))
}

// flatten takes joined errors apart.
func flatten(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, err := range joined.Unwrap() {
		all = append(all, flatten(err)...)
	}
	return all
}

// must says what is allowed for a variable whose value could not be read. Types of ours say it themselves.
func must(t reflect.Type, err error) string {
	if t == reflect.TypeFor[slog.Level]() {
		return "must be debug, info, warn or error"
	}
	if p := reflect.PointerTo(t); p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return err.Error()
	}
	if t == reflect.TypeFor[time.Duration]() {
		return "must be a duration such as 250ms, 15s or 1h30m"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "must be true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "must be a whole number"
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uint:
		return fmt.Sprintf("must be a whole number from 0 to %d", uint64(1)<<t.Bits()-1)
	}
	return err.Error()
}

// text writes a field as its variable would.
func text(field reflect.Value) string {
	switch value := field.Interface().(type) {
	case []string:
		return strings.Join(value, ",")
	case encoding.TextMarshaler:
		written, err := value.MarshalText()
		if err == nil {
			return string(written)
		}
	}
	return fmt.Sprint(field.Interface())
}

// shown is a value as it may be shown.
func shown(v Variable, value string) string {
	if v.Secret && value != "" {
		return "(hidden)"
	}
	return userinfo.ReplaceAllString(value, "://(hidden)@")
}

// userinfo is the part of a URL that may have a password.
var userinfo = regexp.MustCompile(`://[^/@\s]*@`)

// Effective lists the variables of a configuration with the values in force, for the log. Secrets are hidden.
func Effective[T any](cfg T) []slog.Attr {
	var attrs []slog.Attr
	walk(reflect.ValueOf(&cfg).Elem(), nil, func(field reflect.Value, _ reflect.StructTag, v Variable) {
		attrs = append(attrs, slog.String(v.Name, shown(v, text(field))))
	}, func(Validator) {})
	return attrs
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
			variable(field, info.Tag, Variable{
				Name: name, Default: def, Help: info.Tag.Get("help"), Secret: info.Tag.Get("secret") == "true",
			})
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
		return parse.Err
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
