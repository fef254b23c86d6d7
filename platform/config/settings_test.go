package config

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

type settings struct {
	Addr     string   `env:"ADDR" default:":8080" help:"address"`
	Brokers  []string `env:"BROKERS" default:"127.0.0.1:9092" help:"addresses of brokers"`
	Body     Bytes    `env:"BODY" default:"1MiB" help:"largest body"`
	Database struct {
		Port     int           `env:"DATABASE_PORT" default:"54320"`
		Name     string        `env:"DATABASE_NAME"`
		Password string        `env:"DATABASE_PASSWORD" secret:"true"`
		Timeout  time.Duration `env:"DATABASE_TIMEOUT" default:"5s"`
	}
	Limits limits
}

type limits struct {
	Port int `env:"LIMITS_PORT" default:"10"` // The same name and type as the database's.
}

func (l limits) Validate() error {
	if l.Port > 100 {
		return Invalid("LIMITS_PORT", "must be at most 100")
	}
	return nil
}

func TestLoadFrom(t *testing.T) {
	got, err := LoadFrom[settings](map[string]string{
		"BROKERS": "a:1, b:2,", "BODY": "64KiB", "DATABASE_TIMEOUT": "250ms", "ADDR": "", "LIMITS_PORT": "7",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := settings{Addr: ":8080", Brokers: []string{"a:1", "b:2"}, Body: 64 << 10, Limits: limits{Port: 7}}
	want.Database.Port, want.Database.Timeout = 54320, 250*time.Millisecond
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestLoadFromNamesEveryBadVariable(t *testing.T) {
	_, err := LoadFrom[settings](map[string]string{
		"DATABASE_PORT": "many", "DATABASE_TIMEOUT": "soon", "BODY": "1.5MiB", "LIMITS_PORT": "101",
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, name := range []string{`DATABASE_PORT: "many"`, `DATABASE_TIMEOUT: "soon"`, `BODY: "1.5MiB"`,
		`LIMITS_PORT: "101" must be at most 100`,
		"must be a whole number", "must be a duration", "must be a size"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%q is missing in: %v", name, err)
		}
	}
	if n := strings.Count(err.Error(), "\n"); n != 3 {
		t.Errorf("four variables are bad, but the error has %d lines: %v", n+1, err)
	}
	// LIMITS_PORT has the same field name and type as DATABASE_PORT.
	_, err = LoadFrom[settings](map[string]string{"LIMITS_PORT": "none"})
	if err == nil || err.Error() != `bad configuration: LIMITS_PORT: "none" must be a whole number` {
		t.Errorf("got %v", err)
	}
}

func TestVariables(t *testing.T) {
	vars := Variables[settings]()
	want := []Variable{
		{Name: "ADDR", Default: ":8080", Help: "address"},
		{Name: "BROKERS", Default: "127.0.0.1:9092", Help: "addresses of brokers"},
		{Name: "BODY", Default: "1MiB", Help: "largest body"}, {Name: "DATABASE_PORT", Default: "54320"},
		{Name: "DATABASE_NAME"},
		{Name: "DATABASE_PASSWORD", Help: "; DATABASE_PASSWORD_FILE names a file with it", Secret: true},
		{Name: "DATABASE_TIMEOUT", Default: "5s"}, {Name: "LIMITS_PORT", Default: "10"},
	}
	if !reflect.DeepEqual(vars, want) {
		t.Errorf("got %v\nwant %v", vars, want)
	}
}

func TestBytes(t *testing.T) {
	for text, want := range map[string]Bytes{"512": 512, "1KiB": 1024, "2 MiB": 2 << 20, "1024GiB": 1 << 40} {
		var got Bytes
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%q: got %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"0", "-1", "1MB", "KiB", "1025GiB", "99999999999999999999", "1 1"} {
		var got Bytes
		if err := got.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was read as %d", text, got)
		}
	}
}

// What is logged at the start has every setting with its value, and no secret.
func TestAnnounce(t *testing.T) {
	cfg, err := LoadFrom[settings](map[string]string{"DATABASE_PASSWORD": "s3cret", "BROKERS": "a:1,b:2",
		"DATABASE_TIMEOUT": "250ms"})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	Announce(slog.New(slog.NewJSONHandler(&out, nil)), cfg)
	for _, want := range []string{`"version":"`, `"BROKERS":"a:1,b:2"`, `"DATABASE_PASSWORD":"(hidden)"`,
		`"DATABASE_TIMEOUT":"250ms"`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s is missing in %s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "s3cret") {
		t.Errorf("a secret was logged: %s", out.String())
	}
}

func TestSecretsAreNotInErrors(t *testing.T) {
	type secrets struct {
		Key int    `env:"KEY" secret:"true"`
		URL int    `env:"URL"`
		Log string `env:"LOG"`
	}
	_, err := LoadFrom[secrets](map[string]string{"KEY": "s3cret", "URL": "http://me:s3cret@host"})
	if err == nil || strings.Contains(err.Error(), "s3cret") ||
		!strings.Contains(err.Error(), `URL: "http://(hidden)@host"`) {
		t.Errorf("got %v", err)
	}
	if names := effective(secrets{Log: "x"}); !slices.ContainsFunc(names, func(a slog.Attr) bool {
		return a.Equal(slog.String("LOG", "x"))
	}) {
		t.Errorf("got %v", names)
	}
}

// A secret may be in a file, whatever program it is of; other settings may not.
func TestSecretsInFiles(t *testing.T) {
	type settings struct {
		Password string `env:"PASSWORD" secret:"true" help:"the password"`
		Pin      int    `env:"PIN" secret:"true"`
		Name     string `env:"NAME" default:"me"`
	}
	dir := t.TempDir()
	file := func(content string) string {
		path := filepath.Join(dir, fmt.Sprint(len(content)))
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for content, want := range map[string]string{"s3cret": "s3cret", "s3cret\n": "s3cret", "s3cret\r\n": "s3cret",
		" s3 cret\n\n": " s3 cret\n"} {
		got, err := LoadFrom[settings](map[string]string{"PASSWORD_FILE": file(content), "NAME_FILE": file("you")})
		if err != nil || got.Password != want || got.Name != "me" {
			t.Errorf("%q: %+v, %v", content, got, err)
		}
	}
	if got, err := LoadFrom[settings](map[string]string{"PIN_FILE": file("42\n")}); err != nil || got.Pin != 42 {
		t.Errorf("a number: %+v, %v", got, err)
	}
	for _, env := range []map[string]string{
		{"PASSWORD_FILE": filepath.Join(dir, "nothing")}, {"PASSWORD_FILE": dir}, {"PASSWORD_FILE": file("")},
		{"PASSWORD_FILE": file("\n")}, {"PASSWORD_FILE": file(strings.Repeat("x", maxSecret+1))},
		{"PASSWORD_FILE": file("s3cret"), "PASSWORD": "s3cret"},
	} {
		_, err := LoadFrom[settings](env)
		if err == nil || !strings.Contains(err.Error(), "PASSWORD_FILE") || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%v: %v", env, err)
		}
	}
	if _, err := LoadFrom[settings](map[string]string{"PIN_FILE": file("s3cret")}); err == nil ||
		strings.Contains(err.Error(), "s3cret") {
		t.Errorf("no number: %v", err)
	}
	const want = "| `PASSWORD` |  | the password; PASSWORD_FILE names a file with it |"
	if row := Variables[settings]()[0].Row(); row != want {
		t.Error(row)
	}
}
