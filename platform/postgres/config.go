package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/stage"
	"github.com/altyn-pay/altyn/platform/tlsfiles"
)

// Config says where a service's database is and which roles use it. Defaults fills empty names and passwords.
type Config struct {
	Host     string `env:"POSTGRES_HOST" default:"127.0.0.1" help:"host of the PostgreSQL server"`
	Port     uint16 `env:"POSTGRES_PORT" default:"54320" help:"port of the PostgreSQL server"`
	SSLMode  string `env:"POSTGRES_SSLMODE" help:"disable, require, verify-ca or verify-full (default: disable on loopback, else verify-full)"`
	SSLRoots string `env:"POSTGRES_SSLROOTCERT" help:"file of the certificates to trust (default: the system's)"`
	SSLCert  string `env:"POSTGRES_SSLCERT" help:"PEM file of the certificate by which the server knows this process; each new connection reads it"`
	SSLKey   string `env:"POSTGRES_SSLKEY" help:"PEM file of its key, which nobody else may read: mode 0600, or 0640 where it is root's"`

	Database string `env:"POSTGRES_DATABASE" help:"name of the database (default: the service's name)"`

	// The service's role: reads and writes rows.
	User     string `env:"POSTGRES_USER" help:"role of the running service (default: <service>_service)"`
	Password string `env:"POSTGRES_PASSWORD" secret:"true" help:"its password (default: its name, for development)"`

	// The role that owns the tables and migrates them.
	Owner         string `env:"POSTGRES_OWNER" help:"role that migrates (default: <service>_owner)"`
	OwnerPassword string `env:"POSTGRES_OWNER_PASSWORD" secret:"true" help:"its password (default: its name, for development)"`

	MaxConns int `env:"POSTGRES_MAX_CONNS" default:"16" help:"connections that one process may open, at least 2; orders listens on one more"`

	// Application is the name under which the connections appear in pg_stat_activity; Defaults sets the service's.
	Application string
}

// Validate returns everything that is wrong with the configuration, a *config.Wrong each.
func (c Config) Validate() error {
	var errs []error
	if c.Port == 0 {
		errs = append(errs, config.Invalid("POSTGRES_PORT", "must be 1 to 65535"))
	}
	if !knownSSLMode(c.sslMode()) {
		errs = append(errs, config.Invalid("POSTGRES_SSLMODE", "must be disable, require, verify-ca or verify-full"))
	}
	errs = append(errs, tlsfiles.Files{Cert: c.SSLCert, Key: c.SSLKey, CA: c.SSLRoots}.Check(
		tlsfiles.Files{Cert: "POSTGRES_SSLCERT", Key: "POSTGRES_SSLKEY", CA: "POSTGRES_SSLROOTCERT"}))
	if info, err := os.Stat(c.SSLKey); err == nil && info.Mode().Perm()&0o037 != 0 { // lib/pq would refuse it later
		errs = append(errs, config.Invalid("POSTGRES_SSLKEY", "must have mode 0600, or 0640 where it is root's, not %#o",
			info.Mode().Perm()))
	}
	if c.MaxConns < minConns || c.MaxConns > maxConns {
		errs = append(errs, config.Invalid("POSTGRES_MAX_CONNS", "must be %d to %d", minConns, maxConns))
	}
	return errors.Join(errs...)
}

// sslMode is the mode in force. What leaves this machine is encrypted, to a server that has shown who it is.
func (c Config) sslMode() string {
	switch {
	case c.SSLMode != "":
		return c.SSLMode
	case c.Local():
		return string(pq.SSLModeDisable)
	}
	return string(pq.SSLModeVerifyFull)
}

// Local reports whether the server is on this machine.
func (c Config) Local() bool { return c.Host == "localhost" || net.ParseIP(c.Host).IsLoopback() }

// Verified reports whether nobody between this machine and the server can read or change what goes there.
func (c Config) Verified() bool { return c.Local() || c.sslMode() == string(pq.SSLModeVerifyFull) }

func knownSSLMode(mode string) bool {
	switch pq.SSLMode(mode) {
	case pq.SSLModeDisable, pq.SSLModeRequire, pq.SSLModeVerifyCA, pq.SSLModeVerifyFull:
		return true
	}
	return false
}

// Defaults returns the configuration with every empty name and password filled in for the named service: database
// "orders", roles "orders_service" and "orders_owner", each with its own name as the password. Such passwords are for
// development; elsewhere they are set.
func (c Config) Defaults(service string) Config {
	fill := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	fill(&c.Database, service)
	fill(&c.User, service+"_service")
	fill(&c.Password, c.User)
	fill(&c.Owner, service+"_owner")
	fill(&c.OwnerPassword, c.Owner)
	fill(&c.Application, service)
	return c
}

// Address is the server's host:port, for messages.
func (c Config) Address() string {
	return net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port)))
}

// Bounds of one session. A service's statements are short: one that lasts longer waits for something that will not
// come, and whoever sent it tries again.
const (
	connectTimeout    = 5 * time.Second
	statementTimeout  = 30 * time.Second
	lockTimeout       = 10 * time.Second
	idleInTransaction = 30 * time.Second
	// answerTimeout ends the wait for a server that is frozen or unreachable and so cannot end the statement itself.
	answerTimeout = statementTimeout + 15*time.Second
	// A connection is renewed now and then, so that the pool follows a server that moved behind the same name.
	connectionLifetime = 30 * time.Minute
	connectionIdleTime = 5 * time.Minute
	ownerConns         = 4
	// With a single connection, a process could do nothing while something holds it. The upper bound catches typing
	// errors.
	minConns, maxConns = 2, 10_000
)

// Open returns a pool of at most MaxConns connections under the service's role. It does not connect, so the server
// may come up later (see Wait); the error is about the configuration alone.
//
// A parameterised statement is prepared when a connection first sees it, and takes one round trip from then on. A
// []byte is sent as bytea (binary_parameters): pass JSON as a string, and arrays as UUIDs, Int64s, … with a cast,
// as in unnest($1::uuid[]). Every statement is bounded by 30 s, every wait for a lock by 10 s, every pause inside a
// transaction by 30 s.
//
// Cancelling the context of a running statement closes its connection: see Detached for the reads of clients.
func Open(cfg Config) (*sqlx.DB, error) {
	connector, err := connector(cfg, cfg.User, cfg.Password, answerTimeout, map[string]string{
		"statement_timeout": milliseconds(statementTimeout),
		// Every statement of a service finds its rows by keys, whatever their values and however large the tables. So one
		// plan is made for each prepared statement, and none that reads a whole table because the statistics say that it is
		// small: a queue was empty a moment ago, and the balances of a few accounts are on many pages between vacuums.
		"plan_cache_mode": "force_generic_plan",
		"enable_seqscan":  "off",
		"jit":             "off",
	})
	if err != nil {
		return nil, err
	}
	return pool(newPreparing(connector), cfg.MaxConns)
}

// OpenOwner returns a small pool under the role that owns the tables, for migrations and tests. Its statements have
// no time limit, since building an index may take long, but they too give up waiting for a lock after 10 s.
func OpenOwner(cfg Config) (*sqlx.DB, error) {
	connector, err := connector(cfg, cfg.Owner, cfg.OwnerPassword, 0, map[string]string{
		"altyn.service_role": cfg.User,
	})
	if err != nil {
		return nil, err
	}
	return pool(connector, ownerConns)
}

func connector(cfg Config, user, password string, answer time.Duration, settings map[string]string) (
	driver.Connector, error) {
	switch {
	case cfg.Host == "" || cfg.Port == 0:
		return nil, errors.New("postgres: host and port are required")
	case cfg.Database == "" || user == "":
		return nil, errors.New("postgres: database and user are required")
	}
	if !knownSSLMode(cfg.sslMode()) {
		return nil, fmt.Errorf("postgres: sslmode %q is none of disable, require, verify-ca, verify-full", cfg.SSLMode)
	}

	runtime := map[string]string{
		"lock_timeout":                        milliseconds(lockTimeout),
		"idle_in_transaction_session_timeout": milliseconds(idleInTransaction),
		// The server notices within half a minute that this machine is gone, and frees the locks it held.
		"tcp_keepalives_idle":     "10",
		"tcp_keepalives_interval": "5",
		"tcp_keepalives_count":    "4",
		"tcp_user_timeout":        milliseconds(30 * time.Second),
	}
	maps.Copy(runtime, settings)
	// A literal, not pq.NewConfig: PG… variables of the environment must not decide where money goes.
	connector, err := pq.NewConnectorConfig(pq.Config{
		Host: cfg.Host, Port: cfg.Port, Database: cfg.Database, User: user, Password: password,
		SSLMode: pq.SSLMode(cfg.sslMode()), SSLRootCert: cfg.SSLRoots, SSLSNI: true,
		SSLCert: cfg.SSLCert, SSLKey: cfg.SSLKey,
		ApplicationName: cfg.Application, ClientEncoding: "UTF8", Datestyle: "ISO, MDY",
		MinProtocolVersion: pq.ProtocolVersion30, MaxProtocolVersion: pq.ProtocolVersion30,
		ConnectTimeout: connectTimeout, BinaryParameters: true, Runtime: runtime,
	})
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	connector.Dialer(dialBounded(answer))
	return connector, nil
}

func pool(connector driver.Connector, conns int) (*sqlx.DB, error) {
	if conns < 1 {
		return nil, fmt.Errorf("postgres: at least one connection is required, not %d", conns)
	}
	db := sqlx.NewDb(sql.OpenDB(connector), "postgres")
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	db.SetConnMaxLifetime(connectionLifetime)
	db.SetConnMaxIdleTime(connectionIdleTime)
	return db, nil
}

func milliseconds(d time.Duration) string {
	return strconv.FormatInt(d.Milliseconds(), 10)
}

// Wait returns once the database answers, asking again while it is unavailable, until ctx ends. Any other error, such
// as a wrong password, is returned at once.
func Wait(ctx context.Context, db *sqlx.DB) error {
	pause := 20 * time.Millisecond
	for {
		var one int
		err := db.GetContext(ctx, &one, `SELECT 1`)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil && !IsUnavailable(err) {
			return fmt.Errorf("postgres: %w", err)
		}
		if !stage.Wait(ctx, pause) {
			return fmt.Errorf("postgres: waiting for the database: %w (%w)", ctx.Err(), err)
		}
		pause = min(2*pause, time.Second)
	}
}
