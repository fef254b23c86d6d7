package config

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"
)

func TestNearest(t *testing.T) {
	known := []string{"LOG_LEVEL", "LOG_FORMAT", "KAFKA_BROKERS", "KAFKA_TLS", "POSTGRES_PASSWORD", "POSTGRES_DATABASE",
		"POSTGRES_PORT",
		"POSTGRES_USER", "ROLE", "ORDERS_ADDR"}
	for name, want := range map[string]string{
		"LOG_LEVL": "LOG_LEVEL", "LOGLEVEL": "LOG_LEVEL", "log_level": "LOG_LEVEL", "LOG_LEVLE": "LOG_LEVEL",
		"LOG_LVL":      "LOG_LEVEL",
		"KAFKA_BROKER": "KAFKA_BROKERS", "KAFKA_BORKERS": "KAFKA_BROKERS", "POSTGRES_PASS": "POSTGRES_PASSWORD",
		"POSTGRES_PASSWD": "POSTGRES_PASSWORD",
		"POSTGRES_DB":     "POSTGRES_DATABASE", "POSTGRESS_PORT": "POSTGRES_PORT", "ROLES": "ROLE",
		"ORDER_ADDR": "ORDERS_ADDR",
		// What another program of the same environment reads is not near.
		"PAYMENTS_ADDR": "", "GATEWAY_ADDR": "", "ORDERS_URL": "", "KAFKA": "", "POSTGRES": "", "KAFKA_PORT": "",
		"POSTGRES_ADMIN_USER": "",
		"ORDERS_PASSWORD":     "", "ORDERS_INSTANCES": "", "PATH": "", "HOME": "", "SHELL": "", "USER": "", "LANG": "",
		"GOLDEN": "", "RULE": "ROLE",
		"POSTGRES_PORT_5432_TCP_ADDR": "", "KAFKA_SERVICE_HOST": "", "ORDERS_PORT": "",
	} {
		if got := nearest(name, known); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

// What is logged at the start has every setting with its value, no secret, and names what is nearly a setting.
func TestAnnounce(t *testing.T) {
	t.Setenv("DATABASE_PASWORD", "s3cret")
	cfg, err := LoadFrom[settings](map[string]string{"DATABASE_PASSWORD": "s3cret", "BROKERS": "a:1,b:2",
		"DATABASE_TIMEOUT": "250ms"})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	Announce(slog.New(slog.NewJSONHandler(&out, nil)), cfg)
	for _, want := range []string{`"version":"`, `"BROKERS":"a:1,b:2"`, `"DATABASE_PASSWORD":"(hidden)"`,
		`"DATABASE_TIMEOUT":"250ms"`,
		`"variable":"DATABASE_PASWORD","did_you_mean":"DATABASE_PASSWORD"`} {
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
