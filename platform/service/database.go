package service

import (
	"context"
	"errors"

	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/platform/config"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// Database is the settings of what needs a service's database and nothing else.
type Database struct {
	Open     bool `env:"ALTYN_OPEN" default:"false" help:"whether default passwords, and a connection that is not verified, are taken for a database on another machine"`
	Postgres pg.Config
}

// Service is the settings with the defaults of the named service, for who connects under its role. For a database on
// another machine it refuses a connection that is not verified, and the role's default password, which everybody
// knows, unless ALTYN_OPEN says otherwise. The error names the variable.
func (d Database) Service(name string) (pg.Config, error) {
	cfg := d.Postgres.Defaults(name)
	return cfg, d.check(cfg, "POSTGRES_PASSWORD", cfg.Password == cfg.User)
}

// Owner is Service for who connects as the tables' owner.
func (d Database) Owner(name string) (pg.Config, error) {
	cfg := d.Postgres.Defaults(name)
	return cfg, d.check(cfg, "POSTGRES_OWNER_PASSWORD", cfg.OwnerPassword == cfg.Owner)
}

func (d Database) check(cfg pg.Config, password string, known bool) error {
	switch {
	case d.Open:
	case !cfg.Verified():
		return config.Invalid("POSTGRES_SSLMODE",
			"must be verify-full, because the database is on another machine; ALTYN_OPEN=true lifts that")
	case known && !cfg.Local():
		return config.Invalid(password,
			"must be set, and not to the role's name, because the database is on another machine; ALTYN_OPEN=true lifts that")
	}
	return nil
}

func (p Program) database() Database { return Database{p.Config.HTTP.Open, p.Config.Postgres} }

// open opens the service's database under the service's role.
func (p Program) open() (*sqlx.DB, error) {
	cfg, err := p.database().Service(p.Name)
	if err != nil {
		return nil, err
	}
	return pg.Open(cfg)
}

// openOwner opens the service's database as its owner. It must have the schema of this program.
func (p Program) openOwner(ctx context.Context) (*sqlx.DB, error) {
	cfg, err := p.database().Owner(p.Name)
	if err != nil {
		return nil, err
	}
	db, err := pg.OpenOwner(cfg)
	if err != nil {
		return nil, err
	}
	if err := pg.CheckSchema(ctx, db, p.Migrations...); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}
