package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/deploy/audit"
	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/platform/identity"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// Every workload spreads its load over so many accounts, and one with one order or operation per request has so many
// clients.
const (
	clients  = 64
	accounts = 1000
)

// site is a running stack with what the workloads need of it.
type site struct {
	*stack.Stack
	token    string      // that requests and commands show; "" where none is needed
	rate     float64     // of the open loop
	accounts []uuid.UUID // that the load is spread over; they have money
	bodies   [][]byte    // requests for an order, one of each account

	gateway, payments *load.Client
	orders, billing   *sqlx.DB // the databases of orders and payments, as their owners
	admin             *sqlx.DB // the server's database, as its superuser
}

// services are Altyn's own parts of a stack.
var services = []string{stack.Gateway, stack.Orders, stack.Payments}

// start brings up a stack with one instance of each service, which wants tokens or not. limits are settings of the
// gateway.
func start(ctx context.Context, tokens bool, limits []string, opts stack.Options) (_ *site, err error) {
	opts.Services = stack.Instances(1, 1, 0)
	for i := range opts.Services {
		if service := &opts.Services[i]; service.Program == stack.Gateway {
			service.Env = append(service.Env, limits...)
		}
	}
	if tokens {
		opts.Services = append(opts.Services, stack.Service{Name: stack.Issuer, Program: stack.Issuer})
	}
	running, err := stack.Start(ctx, opts)
	if err != nil {
		return nil, err
	}
	s := &site{Stack: running}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if tokens {
		if s.token, err = running.Token(ctx, "bench", identity.DefaultTenant, load.Scopes()...); err != nil {
			return nil, err
		}
	}
	s.gateway = load.New(running.URL(stack.Gateway)).As(s.token)
	s.payments = load.New(running.URL(stack.Payments)).As(s.token)
	for name, db := range map[string]**sqlx.DB{stack.Orders: &s.orders, stack.Payments: &s.billing} {
		cfg, err := running.Database(name)
		if err != nil {
			return nil, err
		}
		if *db, err = pg.OpenOwner(cfg); err != nil {
			return nil, err
		}
	}
	// Without a service's time limit: a checkpoint may take long.
	s.admin, err = pg.OpenOwner(running.Server().Admin())
	return s, err
}

// agedSegments of 16 MB make up the write-ahead log that the server keeps (min_wal_size).
const agedSegments = 64

// age grows the server's write-ahead log to the size that it keeps. A new server first fills each new segment with
// zeros, a cost that no server has for long.
func (s *site) age(ctx context.Context) error {
	for range agedSegments {
		if _, err := s.admin.ExecContext(ctx,
			`SELECT pg_logical_emit_message(false, 'bench', ''), pg_switch_wal()`); err != nil {
			return fmt.Errorf("age the write-ahead log: %w", err)
		}
	}
	if _, err := s.admin.ExecContext(ctx, `CHECKPOINT`); err != nil {
		return fmt.Errorf("age the write-ahead log: %w", err)
	}
	return nil
}

// close ends the stack and deletes its data.
func (s *site) close() error {
	var errs []error
	for _, client := range []*load.Client{s.gateway, s.payments} {
		if client != nil {
			client.Close()
		}
	}
	for _, db := range []*sqlx.DB{s.orders, s.billing, s.admin} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(append(errs, s.Stack.Close())...)
}

// account returns the account of the i-th order or operation.
func (s *site) account(i int) uuid.UUID { return s.accounts[i%len(s.accounts)] }

// open opens accounts with money for any number of orders of 1.00 RUB.
func (s *site) open(ctx context.Context, accounts int) (err error) {
	s.accounts, err = s.gateway.Accounts(ctx, accounts, clients, "1000000000.00", "RUB")
	s.bodies = make([][]byte, len(s.accounts))
	for i, account := range s.accounts {
		s.bodies[i] = []byte(newOrder(account))
	}
	return err
}

// audit checks the books and says what it found.
func (s *site) audit(ctx context.Context) (string, error) {
	began := time.Now()
	books, err := audit.AtRest(ctx, s.orders, s.billing, audit.Of(s.Stack))
	if err != nil {
		return "", fmt.Errorf("the books are wrong: %w", err)
	}
	return fmt.Sprintf("the books are right: %d orders and their payments agree, the entries of %d operations add up "+
		"(audited in %s)", books.Orders, books.Operations, time.Since(began).Round(100*time.Millisecond)), nil
}
