// Package service is the frame of a service with a database and a broker: its settings, its commands, and a process
// that starts while either of them is away and ends in order. The service's main fills the frame:
//
//	func main() {
//		os.Exit(service.New(name, about, newProgram).Main())
//	}
package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/altyn-pay/altyn/platform/audit"
	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/identity/bearer"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/money"
	"github.com/altyn-pay/altyn/platform/outbox"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/telemetry"
	"github.com/altyn-pay/altyn/platform/tlsfiles"
)

// Config is the settings that every service has. A service embeds them in its own.
type Config struct {
	Role       Role   `env:"ROLE" default:"all" help:"all, api (HTTP alone) or worker (the background work, with health and metrics)"`
	Currencies string `env:"CURRENCIES_FILE" help:"file of further currencies, a line CODE,DIGITS each; the same for all services (default: none)"`
	HTTP       httpserver.Config
	Auth       bearer.Config
	Postgres   pg.Config
	Kafka      kafka.Config
	Outbox     outbox.Limits
	Audit      audit.Config
	Telemetry  telemetry.Config
	Traces     telemetry.Traces
}

// Validate checks the settings of traces, and refuses connections to brokers that anybody on the way could read or
// change.
func (c Config) Validate() error {
	err := c.Traces.Check(c.HTTP.Open)
	if c.Kafka.Encrypted() || c.HTTP.Open {
		return err
	}
	return errors.Join(err, config.Invalid("KAFKA_TLS",
		"must be true, because a broker is on another machine; ALTYN_OPEN=true lifts that"))
}

// Role says which parts of a service a process runs.
type Role string

// The roles.
const (
	All    Role = "all"
	API    Role = "api"
	Worker Role = "worker"
)

// UnmarshalText reads a role.
func (r *Role) UnmarshalText(text []byte) error {
	switch role := Role(text); role {
	case All, API, Worker:
		*r = role
		return nil
	}
	return fmt.Errorf("must be %s, %s or %s", All, API, Worker)
}

// Program is what makes a service out of the frame.
type Program struct {
	Name       string
	Addr       string // of its API
	AdminAddr  string // of its operators' plane
	Config     Config
	Log        io.Writer // where it logs to; nil is the standard error
	Migrations []pg.Migrations
	// Amounts are the tables that have amounts, with a column currency. The currencies' digits are recorded beside them
	// (package currencies).
	Amounts []string
	// Topics are those that the service reads or writes. It creates those that are missing, where it may.
	Topics []string
	// Reads are the topics that the service consumes; their dead letters are what the commands are about.
	Reads []string
	// Books are what is audited, by the command audit and in the background.
	Books audit.Books
	// Restored is done by the command restored.
	Restored Restoration
	// Archived are the tables whose old rows the command archive moves.
	Archived []pg.Archived
	// Erasure is how the command erase erases the personal data of an account.
	Erasure func(account uuid.UUID) Erasure
	// Acknowledged is SQL for what clients were told since a time: a line of text for each thing, the same ever after.
	Acknowledged string
	// Classify is the service's table from errors to problems; see httpserver.Options.
	Classify func(error) *httpserver.Problem
	// Render writes a problem in another protocol's form, if any; see httpserver.Options.
	Render func(w http.ResponseWriter, r *http.Request, p *httpserver.Problem) bool
	// Build adds routes, health checks and background work to the process.
	Build func(p *Process) error
}

// Process is one running process of a service.
type Process struct {
	Config     Config
	Log        *slog.Logger
	Metrics    *prometheus.Registry
	Tracer     *telemetry.Tracer
	DB         *sqlx.DB
	Clock      *pg.Clock // that of the database's server
	Currencies *money.Currencies
	Health     *telemetry.Health
	Tokens     *bearer.Verifier // tells who asks, over HTTP and in messages
	H2C        bool             // whether to serve HTTP/2 without TLS too, as gRPC needs it; Build sets it

	router   chi.Router // of the API
	plane    chi.Router // of the operators
	program  Program
	work     []func(ctx context.Context) error
	verified chan struct{} // closed once the database is known to fit
}

// Mount adds routes of the API. They are served once the database is known to fit, to those who have the scope of each.
func (p *Process) Mount(routes ...httpserver.Route) {
	httpserver.Mount(p.router.With(p.onlyVerified), routes...)
}

// MountAdmin adds routes of the operators' plane in the same way.
func (p *Process) MountAdmin(routes ...httpserver.Route) {
	httpserver.Mount(p.plane.With(p.onlyVerified), routes...)
}

// Routers are those of the API and of the operators' plane, for tests that go through all routes.
func (p *Process) Routers() (api, plane chi.Routes) { return p.router, p.plane }

// Addresses are those on which a process listens.
type Addresses struct{ API, Admin net.Addr }

// Go adds background work: a function that works until ctx ends and then returns nil. ctx ends after HTTP was
// drained, so that requests in flight are still served. An error of the work ends the process.
func (p *Process) Go(work func(ctx context.Context) error) { p.work = append(p.work, work) }

// New makes a service's command line: serve, migrate, health, audit, erase, archive, and the commands for dead letters.
// of makes the program from the service's own settings.
func New[T any](name, about string, of func(T) Program) config.Program {
	served := "Oldest schema of each set of migrations that it can serve: " + pg.Served(of(*new(T)).Migrations...) + "."
	return config.Program{Name: name, About: about, More: served, Default: "serve", Commands: []config.Command{
		config.NewCommand("serve", "run the service until SIGTERM", func(ctx context.Context, cfg T) error {
			p := of(cfg)
			if _, err := p.database().Service(name); err != nil {
				return err
			}
			config.Announce(p.logger(), cfg)
			p.Config.HTTP.AnnounceOpenness(p.logger(), p.Config.Auth.On(), p.Addr, p.AdminAddr)
			if p.Config.Auth.On() && !p.Config.Kafka.Guarded() {
				p.logger().Warn("whoever reaches the broker may move money and read tokens: it is on another machine, without " +
					"TLS and one of KAFKA_SASL_MECHANISM and KAFKA_TLS_CERT_FILE")
			}
			return Serve(ctx, p, nil)
		}),
		config.NewCommand("migrate", "bring the database's schema up to date, as its owner",
			func(ctx context.Context, cfg T) error {
				p := of(cfg)
				db, err := p.database().Owner(name)
				if err != nil {
					return err
				}
				return pg.Migrate(ctx, db, p.logger(), p.Migrations...)
			}),
		config.NewCommand("topics", "create the service's topics, as a user of the broker who may; others may not need to",
			func(ctx context.Context, cfg T) error {
				p := of(cfg)
				return kafka.EnsureTopics(ctx, p.Config.Kafka, p.Topics...)
			}),
		config.NewCommand("health", "ask the service on this machine whether it is ready",
			func(ctx context.Context, cfg T) error {
				p := of(cfg)
				return httpserver.Probe(ctx, p.AdminAddr, p.Config.HTTP.TLS.On())
			}),
		auditCommand(of),
		restoredCommand(of),
		eraseCommand(of),
		archiveCommand(of),
		goneCommand(of),
		config.NewCommand("dead-letters",
			"list the messages that could not be read, with the reasons, and which of them were put back",
			func(ctx context.Context, cfg struct {
				Service T
				Only    Only
			}) error {
				return deadLetters(ctx, os.Stdout, of(cfg.Service), cfg.Only)
			}),
		config.NewCommand("put-back",
			"publish dead letters again on the topics that they came from, each once, those of this moment",
			func(ctx context.Context, cfg struct {
				Service T
				Return  Return
			}) error {
				return putBack(ctx, os.Stdout, of(cfg.Service), cfg.Return)
			}),
	}}
}

func (p Program) logger() *slog.Logger {
	to := p.Log
	if to == nil {
		to = os.Stderr
	}
	return telemetry.NewLogger(to, p.Config.Telemetry, p.Name)
}

// Serve runs a process until ctx ends; then it drains HTTP first and the background work after it. Neither the database
// nor the broker need be up. It calls listening, if set, with the addresses that it listens on.
func Serve(ctx context.Context, program Program, listening func(Addresses)) (err error) {
	cfg := program.Config
	p := &Process{
		Config: cfg, program: program, verified: make(chan struct{}),
		Log: program.logger(), Metrics: telemetry.NewRegistry(program.Name),
	}
	if p.Tracer, err = telemetry.NewTracer(cfg.Traces, program.Name, p.Log, p.Metrics); err != nil {
		return err
	}
	defer p.Tracer.Close()
	if p.Currencies, err = money.LoadCurrencies(cfg.Currencies); err != nil {
		return &config.Wrong{Name: "CURRENCIES_FILE", Value: cfg.Currencies,
			Must: "must be a file of lines CODE,DIGITS: " + err.Error(), Err: err}
	}
	if p.DB, err = pg.Open(cfg.Postgres.Defaults(program.Name)); err != nil {
		return err
	}
	defer p.DB.Close()
	p.Clock = pg.NewClock(p.DB, p.Log)
	p.Go(p.Clock.Run)
	p.Health = telemetry.NewHealth(p.Log)
	p.Health.Add("postgres", func(ctx context.Context) error { return pg.CheckSchema(ctx, p.DB, program.Migrations...) })
	p.Tokens = bearer.New(cfg.Auth, p.Log)
	if p.Tokens.On() {
		p.Health.Add("tokens", p.Tokens.Ready)
		p.Health.Show("issuer", p.Tokens.Fresh)
	}
	p.Metrics.MustRegister(p.Health)
	if err := tlsfiles.WatchExpiry(p.Metrics, map[string]tlsfiles.Files{
		"server":   {Cert: cfg.HTTP.TLS.Cert, Key: cfg.HTTP.TLS.Key},
		"kafka":    {Cert: cfg.Kafka.TLSCert, Key: cfg.Kafka.TLSKey},
		"postgres": {Cert: cfg.Postgres.SSLCert, Key: cfg.Postgres.SSLKey},
	}); err != nil {
		return err
	}
	p.Metrics.MustRegister(pg.Collectors(p.DB, cfg.Postgres.Defaults(program.Name).Database)...)
	p.Metrics.MustRegister(pg.ServedGauge(program.Migrations...))
	p.Log.InfoContext(ctx, "oldest schemas that can be served", "schemas", pg.Served(program.Migrations...))
	options := httpserver.Options{
		Logger: p.Log, Registerer: p.Metrics, Classify: program.Classify, Render: program.Render,
		Authenticate: p.Tokens.Authenticate, Tokens: p.Tokens.On(), Tracer: p.Tracer, Config: cfg.HTTP,
	}
	p.router, p.plane = httpserver.NewRouter(options), httpserver.NewPlane(options, p.Metrics, p.Health)
	httpserver.Mount(p.router,
		httpserver.NewRoute("GET", "/healthz", identity.Public, p.Health.Live()),
		httpserver.NewRoute("GET", "/readyz", identity.Public, p.Health.Ready()))
	if err := p.verifyAtStart(ctx); err != nil {
		return err
	}
	if err := program.Build(p); err != nil {
		return err
	}
	if cfg.Audit.On && cfg.Role != API {
		p.Go(audit.NewWorker(p.DB, program.Books, cfg.Audit, p.Log, p.Metrics).Run)
	}
	apiTLS, adminTLS, err := cfg.HTTP.TLS.Open(p.Log)
	if err != nil {
		return err
	}
	api, err := httpserver.Listen(ctx, program.Name, cfg.HTTP.APIAddr(p.Tokens.On(), program.Addr))
	if err != nil {
		return err
	}
	defer api.Close()
	admin, err := httpserver.Listen(ctx, "operators", httpserver.PlaneAddr(program.AdminAddr))
	if err != nil {
		return err
	}
	defer admin.Close()
	if listening != nil {
		listening(Addresses{api.Addr(), admin.Addr()})
	}

	// A part that ends for another reason than ctx ends all others.
	group, failed := errgroup.WithContext(context.WithoutCancel(ctx))
	serving, stopServing := context.WithCancel(failed)
	defer stopServing()
	defer context.AfterFunc(ctx, stopServing)()
	working, stopWorking := context.WithCancel(failed)
	defer stopWorking()
	for _, work := range p.work {
		group.Go(func() error {
			select {
			case <-p.verified:
				return work(working)
			case <-working.Done():
				return nil
			}
		})
	}
	group.Go(func() error { return p.verify(serving) })
	group.Go(func() error { return p.Tokens.Run(working) })
	group.Go(func() error {
		return httpserver.Run(serving, httpserver.Server{
			Name: "operators", Listener: admin, Handler: p.plane, TLS: adminTLS, H2C: p.H2C, Logger: p.Log,
			Limits: cfg.HTTP.Limits,
		})
	})
	group.Go(func() error {
		defer stopWorking()
		return httpserver.Run(serving, httpserver.Server{
			Name: program.Name, Listener: api, Handler: p.router, TLS: apiTLS, H2C: p.H2C, Logger: p.Log,
			Limits: cfg.HTTP.Limits,
		})
	})
	return group.Wait()
}
