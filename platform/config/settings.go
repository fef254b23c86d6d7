package config

import (
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Validator is a struct of settings that checks what types alone cannot express. Validate returns a *Wrong for each bad
// setting, joined by errors.Join.
type Validator interface{ Validate() error }

// Wrong is a setting whose value cannot be used. A program that ends with this error exits with code 2, even when it
// notices the fault after its start, as with the content of a file that the variable names.
type Wrong struct {
	Name  string // the variable, or the flag with its dashes
	Value string // Load fills it in
	Must  string // what is allowed, such as "must be 1 to 65535"
	Err   error  // the cause; may be nil
}

// Invalid returns the *Wrong of a variable, or of a flag such as --wait. The format says what is allowed.
func Invalid(name, format string, args ...any) error {
	return &Wrong{Name: name, Must: fmt.Sprintf(format, args...)}
}

func (w *Wrong) Error() string {
	if w.Value == "" {
		return w.Name + " " + w.Must
	}
	return fmt.Sprintf("%s: %q %s", w.Name, w.Value, w.Must)
}

// Unwrap returns the cause.
func (w *Wrong) Unwrap() error { return w.Err }

// ExitStatus is the exit code for wrong settings.
func (w *Wrong) ExitStatus() int { return exitWrong }

// Variable describes one setting.
type Variable struct {
	Name string // of the environment variable; empty where there is only a flag
	Flag string // without dashes; empty where there is only a variable
	// Arguments is how the help names the arguments that are no flags, such as PART…; empty for any other setting.
	Arguments string
	// Value is what stands for the flag's value in the help, such as ID. It is empty for a switch.
	Value, Default, Help string
	// Secret values are never shown.
	Secret bool
	// Required flags must have a value that is not empty.
	Required bool
}

// setting is a field of a struct with its description.
type setting struct {
	Variable
	field reflect.Value
}

// LoadFrom reads T from the given variables. Its error names every bad variable.
func LoadFrom[T any](lookup map[string]string) (T, error) {
	var cfg T
	err := read(&cfg, lookup, nil)
	return cfg, err
}

// read fills a struct of settings from variables and from the arguments behind a command.
func read(target any, lookup map[string]string, args []string) error {
	settings, validators := inspect(target)
	given, err := parseArguments(settings, args)
	if err != nil {
		return err
	}
	var wrongs []error
	if lookup, err = withFiles(settings, lookup); err != nil {
		wrongs = append(wrongs, flatten(err)...)
	}
	for _, s := range settings {
		name, value := s.Name, cmp.Or(lookup[s.Name], s.Default)
		if typed, ok := given[s.flag()]; ok {
			name, value = s.flag(), typed
		} else if value == "" {
			continue
		}
		if err := set(s.field, value); err != nil {
			wrongs = append(wrongs, &Wrong{Name: cmp.Or(name, s.flag()), Value: s.shown(value), Must: err.Error(), Err: err})
			_ = set(s.field, s.Default) // So that Validate has nothing more to say about it.
		}
	}
	for _, v := range validators {
		if err := v.Validate(); err != nil {
			wrongs = append(wrongs, flatten(err)...)
		}
	}
	for _, err := range wrongs {
		if wrong := (*Wrong)(nil); errors.As(err, &wrong) && wrong.Value == "" {
			for _, s := range settings {
				if wrong.Name == s.Name || wrong.Name == s.flag() {
					wrong.Value = s.shown(cmp.Or(given[s.flag()], lookup[s.Name], text(s.field)))
				}
			}
		}
	}
	if i := slices.IndexFunc(wrongs, isArgument); i >= 0 {
		return wrongs[i]
	}
	if len(wrongs) == 0 {
		return nil
	}
	return fmt.Errorf("bad configuration: %w", errors.Join(wrongs...))
}

// maxSecret bounds a file with a secret, in bytes.
const maxSecret = 64 << 10

// withFiles returns the variables with those secrets that are in files: NAME_FILE names a file with the secret NAME. A
// line break at the file's end is no part of it.
func withFiles(settings []setting, lookup map[string]string) (map[string]string, error) {
	var errs []error
	read := maps.Clone(lookup)
	for _, s := range settings {
		path := lookup[s.Name+fileEnding]
		if !s.Secret || s.Name == "" || path == "" {
			continue
		}
		info, err := os.Stat(path)
		var content []byte
		switch {
		case lookup[s.Name] != "":
			err = errors.New("must not be set beside " + s.Name)
		case err != nil:
		case !info.Mode().IsRegular() || info.Size() > maxSecret:
			err = fmt.Errorf("must be a file of at most %d bytes", maxSecret)
		default:
			content, err = os.ReadFile(path)
		}
		secret := strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r")
		if err == nil && secret == "" {
			err = errors.New("must be a file that has something in it")
		}
		if err != nil {
			errs = append(errs, &Wrong{Name: s.Name + fileEnding, Value: path, Must: err.Error(), Err: err})
		}
		read[s.Name] = secret
	}
	return read, errors.Join(errs...)
}

// fileEnding ends the variable that names a file with a secret.
const fileEnding = "_FILE"

// flag is the setting's flag with its dashes.
func (s setting) flag() string { return "--" + s.Flag }

// inspect lists the settings of a struct and its validators, innermost structs first.
func inspect(target any) (settings []setting, validators []Validator) {
	var walk func(s reflect.Value)
	walk = func(s reflect.Value) {
		for i := range s.NumField() {
			field, info := s.Field(i), s.Type().Field(i)
			v := describe(info)
			switch {
			case v.Name != "" || v.Flag != "" || v.Arguments != "":
				settings = append(settings, setting{v, field})
			case field.Kind() == reflect.Struct && (info.IsExported() || info.Anonymous):
				walk(field)
			}
		}
		if !s.Addr().CanInterface() { // embedded and not exported
			return
		}
		if v, ok := reflect.TypeAssert[Validator](s.Addr()); ok {
			validators = append(validators, v)
		}
	}
	walk(reflect.ValueOf(target).Elem())
	return settings, validators
}

// describe reads the tags of a field.
func describe(field reflect.StructField) Variable {
	tag := field.Tag.Get
	v := Variable{
		Name: tag("env"), Flag: tag("flag"), Value: tag("value"), Default: tag("default"), Help: tag("help"),
		Arguments: tag("args"), Secret: tag("secret") == "true", Required: tag("required") == "true",
	}
	if v.Secret && v.Name != "" {
		v.Help += "; " + v.Name + fileEnding + " names a file with it"
	}
	switch kind := field.Type.Kind(); {
	case v.Value != "" || v.Flag == "" || kind == reflect.Bool:
	case field.Type == reflect.TypeFor[time.Duration]():
		v.Value = "DURATION"
	case kind >= reflect.Int && kind <= reflect.Float64:
		v.Value = "NUMBER"
	default:
		v.Value = "TEXT"
	}
	return v
}

// set reads a value into a field. Its error says what is allowed.
func set(field reflect.Value, value string) error {
	if level, ok := reflect.TypeAssert[*slog.Level](field.Addr()); ok {
		if level.UnmarshalText([]byte(value)) != nil {
			return errors.New("must be debug, info, warn or error")
		}
		return nil
	}
	if u, ok := reflect.TypeAssert[encoding.TextUnmarshaler](field.Addr()); ok {
		return u.UnmarshalText([]byte(value))
	}
	if field.Type() == reflect.TypeFor[time.Duration]() {
		d, err := time.ParseDuration(value)
		if err != nil {
			return errors.New("must be a duration such as 250ms, 15s or 1h30m")
		}
		field.SetInt(int64(d))
		return nil
	}
	bits := 0
	if field.CanInt() || field.CanUint() || field.CanFloat() {
		bits = field.Type().Bits()
	}
	switch {
	case field.Kind() == reflect.String:
		field.SetString(value)
	case field.Kind() == reflect.Bool:
		b, err := strconv.ParseBool(value)
		if err != nil {
			return errors.New("must be true or false")
		}
		field.SetBool(b)
	case field.CanInt():
		n, err := strconv.ParseInt(value, 10, bits)
		if err != nil {
			return errors.New("must be a whole number")
		}
		field.SetInt(n)
	case field.CanUint():
		n, err := strconv.ParseUint(value, 10, bits)
		if err != nil {
			return fmt.Errorf("must be a whole number from 0 to %d", uint64(1)<<bits-1)
		}
		field.SetUint(n)
	case field.CanFloat():
		f, err := strconv.ParseFloat(value, bits)
		if err != nil {
			return errors.New("must be a number")
		}
		field.SetFloat(f)
	case field.Type() == reflect.TypeFor[[]string]():
		field.Set(reflect.ValueOf(list(value)))
	default:
		panic(fmt.Sprintf("config: a setting cannot be a %s", field.Type()))
	}
	return nil
}

// list splits at commas. It ignores blanks and empty elements.
func list(value string) (items []string) {
	for item := range strings.SplitSeq(value, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
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

// text writes a field as its variable would be written.
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

// shown returns a value in a form that may be shown.
func (v Variable) shown(value string) string {
	if v.Secret && value != "" {
		return "(hidden)"
	}
	return userinfo.ReplaceAllString(value, "://(hidden)@")
}

// userinfo is the part of a URL that may have a password.
var userinfo = regexp.MustCompile(`://[^/@\s]*@`)

// effective lists the variables of a configuration with the values in force, for the log. Secrets are hidden.
func effective[T any](cfg T) []slog.Attr {
	settings, _ := inspect(&cfg)
	attrs := make([]slog.Attr, len(settings))
	for i, s := range settings {
		attrs[i] = slog.String(s.Name, s.shown(text(s.field)))
	}
	return attrs
}

// Variables lists the variables of T in the order of its fields.
func Variables[T any]() []Variable { return variables(new(T)) }

func variables(target any) (vars []Variable) {
	settings, _ := inspect(target)
	for _, s := range settings {
		vars = append(vars, s.Variable)
	}
	return vars
}

// CheckAddr checks a TCP address to listen on, host:port with an optional host. It returns the *Wrong of the variable.
func CheckAddr(name, addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if _, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil {
		return Invalid(name, "must be host:port or :port, with a port from 0 to 65535")
	}
	return nil
}

// Bytes is a size in bytes, written as 512, 64KiB, 1MiB or 2GiB.
type Bytes int64

var units = []struct {
	suffix string
	bytes  Bytes
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"", 1}}

// UnmarshalText reads a size of at least one byte and at most 1024 GiB.
func (b *Bytes) UnmarshalText(text []byte) error {
	for _, unit := range units {
		digits, ok := strings.CutSuffix(string(text), unit.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 1 || Bytes(n) > (1<<40)/unit.bytes {
			break
		}
		*b = Bytes(n) * unit.bytes
		return nil
	}
	return errors.New("must be a size such as 512, 64KiB or 1MiB")
}
