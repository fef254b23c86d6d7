package service

import (
	"errors"
	"strings"
	"testing"

	"github.com/altyn-pay/altyn/platform/config"
)

const servicePassword, ownerPassword = "POSTGRES_PASSWORD", "POSTGRES_OWNER_PASSWORD"

// Default passwords are for a database on this machine, or in a network that is said to be open.
func TestDefaultPasswords(t *testing.T) {
	type settings struct{ Config }
	program := New("shop", "about", func(s settings) Program { return Program{Name: "shop", Config: s.Config} })
	for _, test := range []struct {
		host, open, password string
		refused              bool
	}{
		{"db.example", "", "", true}, {"db.example", "", "ROLE", true}, {"10.0.0.1", "", "", true},
		{"db.example", "true", "", false}, {"db.example", "", "s3cret", false},
		{"127.0.0.1", "", "", false}, {"localhost", "", "", false}, {"::1", "", "", false},
	} {
		for variable, role := range map[string]string{servicePassword: "shop_service", ownerPassword: "shop_owner"} {
			env := map[string]string{"POSTGRES_HOST": test.host, "ALTYN_OPEN": test.open,
				variable: strings.ReplaceAll(test.password, "ROLE", role)}
			database, err := config.LoadFrom[Database](env)
			if err != nil {
				t.Fatal(err)
			}
			if variable == ownerPassword {
				_, err = database.Owner("shop")
			} else {
				_, err = database.Service("shop")
			}
			var wrong *config.Wrong
			if refused := errors.As(err, &wrong) && wrong.Name == variable; refused != test.refused ||
				err != nil && !refused {
				t.Errorf("%+v of %s: %v", test, role, err)
			}
		}
		if !test.refused {
			continue
		}
		for command, variable := range map[string]string{
			"serve": servicePassword, "audit": servicePassword, "put-back --reason mended": servicePassword,
			"migrate": ownerPassword, "archive --older 1h": ownerPassword,
			"erase --account 0198c5a7-5f6e-7c3e-9d57-3f1f6a0f8e11 --reason asked": ownerPassword,
			"restored --to 2026-01-02T15:04:05Z --reason lost":                    ownerPassword,
			"gone --since 2026-01-02T15:04:05Z --lost 127.0.0.1:5433":             ownerPassword,
		} {
			var said strings.Builder
			program.Env = map[string]string{"POSTGRES_HOST": test.host}
			program.Stderr = &said
			code := program.Run(t.Context(), strings.Fields(command))
			if code != 2 || !strings.Contains(said.String(), variable) {
				t.Errorf("%s: exit code %d, %s", command, code, &said)
			}
		}
	}
}

// So does what goes to brokers, but for a network that is open.
func TestTheBrokersAreVerified(t *testing.T) {
	for _, test := range []struct {
		brokers, tls, open string
		refused            bool
	}{
		{"kafka.example:9093", "", "", false}, {"kafka.example:9093", "true", "", false},
		{"kafka.example:9092", "false", "", true}, {"127.0.0.1:9092,kafka.example:9092", "false", "", true},
		{"kafka.example:9092", "false", "true", false}, {"127.0.0.1:9092,[::1]:9092", "false", "", false},
	} {
		_, err := config.LoadFrom[Config](map[string]string{"KAFKA_BROKERS": test.brokers, "KAFKA_TLS": test.tls,
			"ALTYN_OPEN": test.open})
		if (err != nil) != test.refused || err != nil && !strings.Contains(err.Error(), "KAFKA_TLS") {
			t.Errorf("%+v: %v", test, err)
		}
	}
}

// What goes to a database on another machine is encrypted and goes to that database, unless the network is open.
func TestTheDatabaseIsVerified(t *testing.T) {
	for _, test := range []struct {
		host, mode, open string
		refused          bool
	}{
		{"db.example", "", "", false}, {"db.example", "verify-full", "", false}, {"db.example", "disable", "", true},
		{"db.example", "require", "", true}, {"db.example", "verify-ca", "", true},
		{"127.0.0.1.example", "disable", "", true},
		{"db.example", "disable", "true", false}, {"127.0.0.1", "disable", "", false}, {"::1", "", "", false},
	} {
		database, err := config.LoadFrom[Database](map[string]string{"POSTGRES_HOST": test.host,
			"POSTGRES_SSLMODE": test.mode, "ALTYN_OPEN": test.open, servicePassword: "s3cret"})
		if err != nil {
			t.Fatal(err)
		}
		_, err = database.Service("shop")
		if (err != nil) != test.refused || err != nil && !strings.Contains(err.Error(), "POSTGRES_SSLMODE") {
			t.Errorf("%+v: %v", test, err)
		}
	}
}
