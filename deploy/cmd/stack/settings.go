package main

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/identity/bearer"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/localkafka"
	"github.com/altyn-pay/altyn/testkit/localpostgres"
)

// Settings are the variables that this program reads. All others reach the services as they are.
type Settings struct {
	PostgresKind     string `env:"POSTGRES" help:"embedded (fetched once) or installed (default: embedded, else installed)"`
	PostgresPort     uint16 `env:"POSTGRES_PORT" default:"54320" help:"port of PostgreSQL"`
	PostgresHost     string `env:"POSTGRES_HOST" help:"host of a PostgreSQL that runs already; none is started then"`
	PostgresSSLMode  string `env:"POSTGRES_SSLMODE" help:"of that PostgreSQL: disable, require, verify-ca or verify-full (default: disable on loopback, else verify-full)"`
	PostgresSSLRoots string `env:"POSTGRES_SSLROOTCERT" help:"of that PostgreSQL: file of the certificates to trust"`
	AdminUser        string `env:"POSTGRES_ADMIN_USER" help:"its superuser, to make the roles and databases (default: they are there)"`
	AdminPassword    string `env:"POSTGRES_ADMIN_PASSWORD" secret:"true" help:"password of that superuser"`

	KafkaKind    string   `env:"KAFKA" help:"apache (needs Java 17 and, once, Maven) or embedded (default: apache, else embedded)"`
	KafkaPort    uint16   `env:"KAFKA_PORT" default:"9092" help:"port of Kafka"`
	KafkaBrokers []string `env:"KAFKA_BROKERS" help:"addresses of a Kafka that runs already; none is started then"`

	OrdersAddr        string `env:"ORDERS_ADDR" default:":8080" help:"address of orders"`
	PaymentsAddr      string `env:"PAYMENTS_ADDR" default:":8081" help:"address of payments"`
	GatewayAddr       string `env:"GATEWAY_ADDR" default:":8000" help:"address of the gateway"`
	GatewayAdminAddr  string `env:"GATEWAY_ADMIN_ADDR" default:":8009" help:"address of the operators' plane of the gateway"`
	OrdersAdminAddr   string `env:"ORDERS_ADMIN_ADDR" default:":8180" help:"address of the operators' plane of orders"`
	PaymentsAdminAddr string `env:"PAYMENTS_ADMIN_ADDR" default:":8181" help:"address of the operators' plane of payments"`
	Auth              string `env:"AUTH" default:"none" help:"none, jwt (tokens of AUTH_ISSUER), or dev (tokens of an issuer that is started too; make token)"`
	IssuerAddr        string `env:"ISSUER_ADDR" default:"127.0.0.1:8010" help:"address of that issuer"`
	Observability     bool   `env:"OBSERVABILITY" help:"whether Prometheus runs too, which must be installed"`
	PrometheusAddr    string `env:"PROMETHEUS_ADDR" default:"127.0.0.1:9090" help:"address of Prometheus"`
	OrdersInstances   int    `env:"ORDERS_INSTANCES" default:"1" help:"instances of orders, all but the first on free ports"`
	PaymentsInstances int    `env:"PAYMENTS_INSTANCES" default:"1" help:"instances of payments, all but the first on free ports"`
	PaymentsWorkers   int    `env:"PAYMENTS_WORKERS" default:"1" help:"further instances of payments that settle and serve no API"`
}

// maxInstances bounds a slip of the finger.
const maxInstances = 16

// Validate checks the numbers and addresses.
func (s *Settings) Validate() error {
	errs := []error{
		config.CheckAddr("ORDERS_ADDR", s.OrdersAddr), config.CheckAddr("PAYMENTS_ADDR", s.PaymentsAddr),
		config.CheckAddr("ORDERS_ADMIN_ADDR", s.OrdersAdminAddr),
		config.CheckAddr("PAYMENTS_ADMIN_ADDR", s.PaymentsAdminAddr),
		config.CheckAddr("ISSUER_ADDR", s.IssuerAddr), config.CheckAddr("PROMETHEUS_ADDR", s.PrometheusAddr),
		config.CheckAddr("GATEWAY_ADDR", s.GatewayAddr), config.CheckAddr("GATEWAY_ADMIN_ADDR", s.GatewayAdminAddr),
	}
	if !slices.Contains([]string{string(bearer.None), string(bearer.JWT), stack.Dev}, s.Auth) {
		errs = append(errs, config.Invalid("AUTH", "must be none, jwt or dev"))
	}
	if _, err := exec.LookPath(stack.PrometheusName); s.Observability && err != nil {
		errs = append(errs, config.Invalid("OBSERVABILITY",
			"needs the program prometheus in PATH, such as from Debian's package of that name"))
	}
	kinds := []localpostgres.Kind{"", localpostgres.Embedded, localpostgres.Installed}
	if !slices.Contains(kinds, localpostgres.Kind(s.PostgresKind)) {
		errs = append(errs, config.Invalid("POSTGRES", "must be embedded or installed"))
	}
	if !slices.Contains([]localkafka.Kind{"", localkafka.Apache, localkafka.Embedded}, localkafka.Kind(s.KafkaKind)) {
		errs = append(errs, config.Invalid("KAFKA", "must be apache or embedded"))
	}
	if s.KafkaPort == 0 {
		errs = append(errs, config.Invalid("KAFKA_PORT", "must be 1 to 65535"))
	}
	for _, n := range []struct {
		name       string
		value, min int
	}{
		{"ORDERS_INSTANCES", s.OrdersInstances, 1},
		{"PAYMENTS_INSTANCES", s.PaymentsInstances, 1},
		{"PAYMENTS_WORKERS", s.PaymentsWorkers, 0},
	} {
		if n.value < n.min || n.value > maxInstances {
			errs = append(errs, config.Invalid(n.name, "must be %d to %d", n.min, maxInstances))
		}
	}
	return errors.Join(errs...)
}

// place is the folder that holds everything: .altyn in the repository.
type place struct{ dir string }

func findPlace() (place, error) {
	root, err := stack.Root()
	return place{filepath.Join(root, ".altyn")}, err
}

func (p place) binaries() string { return filepath.Join(p.dir, "bin") }
func (p place) lock() string     { return filepath.Join(p.dir, "lock") }
func (p place) logs() string     { return filepath.Join(p.dir, "logs") }
func (p place) state() string    { return filepath.Join(p.dir, "state.json") }

// log is the supervisor's own log, beside those of the parts.
func (p place) log() string { return filepath.Join(p.logs(), "stack.log") }

// services are the instances to run.
func (s *Settings) services() []stack.Service {
	services := stack.Instances(s.OrdersInstances, s.PaymentsInstances, s.PaymentsWorkers)
	if s.Auth == stack.Dev {
		services = append(services, stack.Service{Name: stack.Issuer, Program: stack.Issuer, Addr: s.IssuerAddr})
	}
	for i := range services {
		// The first instance of each service has the well-known address.
		switch service := &services[i]; service.Name {
		case stack.Orders:
			service.Addr, service.AdminAddr = s.OrdersAddr, s.OrdersAdminAddr
		case stack.Payments:
			service.Addr, service.AdminAddr = s.PaymentsAddr, s.PaymentsAdminAddr
		case stack.Gateway:
			service.Addr, service.AdminAddr = s.GatewayAddr, s.GatewayAdminAddr
		}
	}
	return services
}

// options describes the stack, with or without services.
func (s *Settings) options(at place, withServices bool) stack.Options {
	opts := stack.Options{
		Dir:      at.dir,
		Binaries: at.binaries(),
		Postgres: stack.Postgres{Kind: localpostgres.Kind(s.PostgresKind), Port: s.PostgresPort},
		Kafka:    stack.Kafka{Kind: localkafka.Kind(s.KafkaKind), Port: s.KafkaPort, Running: s.KafkaBrokers},
	}
	if s.PostgresHost != "" {
		running := pg.Config{Host: s.PostgresHost, Port: s.PostgresPort, SSLMode: s.PostgresSSLMode,
			SSLRoots: s.PostgresSSLRoots}
		opts.Postgres.Running = &running
		if s.AdminUser != "" {
			admin := running
			admin.Database, admin.MaxConns = "postgres", 2
			admin.User, admin.Password = s.AdminUser, s.AdminPassword
			opts.Postgres.Admin = &admin
		}
	}
	if withServices {
		opts.Services = s.services()
	}
	if withServices && s.Observability {
		opts.Prometheus = stack.Prometheus{
			Program: stack.PrometheusName, Addr: s.PrometheusAddr,
			Rules: filepath.Join(filepath.Dir(at.dir), "deploy", "observability", "alerts.yml"),
		}
	}
	return opts
}

// endpoints are the addresses that must be free.
func (s *Settings) endpoints(withServices bool) []stack.Endpoint {
	var endpoints []stack.Endpoint
	if s.PostgresHost == "" {
		endpoints = append(endpoints, stack.Endpoint{
			Part: "PostgreSQL", Addr: fmt.Sprintf("127.0.0.1:%d", s.PostgresPort),
			Variable: "POSTGRES_PORT (and POSTGRES_HOST, to use a PostgreSQL that runs)",
		})
	}
	if len(s.KafkaBrokers) == 0 {
		endpoints = append(endpoints, stack.Endpoint{
			Part: "Kafka", Addr: fmt.Sprintf("127.0.0.1:%d", s.KafkaPort),
			Variable: "KAFKA_PORT (or KAFKA_BROKERS, to use a Kafka that runs)",
		})
	}
	if withServices {
		endpoints = append(endpoints,
			stack.Endpoint{Part: stack.Orders, Addr: s.OrdersAddr, Variable: "ORDERS_ADDR"},
			stack.Endpoint{Part: stack.Payments, Addr: s.PaymentsAddr, Variable: "PAYMENTS_ADDR"},
			stack.Endpoint{Part: stack.Gateway, Addr: s.GatewayAddr, Variable: "GATEWAY_ADDR"},
			stack.Endpoint{Part: "the operators' plane of orders", Addr: s.OrdersAdminAddr, Variable: "ORDERS_ADMIN_ADDR"},
			stack.Endpoint{Part: "that of payments", Addr: s.PaymentsAdminAddr, Variable: "PAYMENTS_ADMIN_ADDR"},
			stack.Endpoint{Part: "that of the gateway", Addr: s.GatewayAdminAddr, Variable: "GATEWAY_ADMIN_ADDR"},
		)
	}
	if withServices && s.Auth == stack.Dev {
		endpoints = append(endpoints, stack.Endpoint{Part: "the issuer", Addr: s.IssuerAddr, Variable: "ISSUER_ADDR"})
	}
	if withServices && s.Observability {
		endpoints = append(endpoints,
			stack.Endpoint{Part: "Prometheus", Addr: s.PrometheusAddr, Variable: "PROMETHEUS_ADDR"})
	}
	return endpoints
}
