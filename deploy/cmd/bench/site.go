package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/deploy/audit"
	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/deploy/stack"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// site is a running stack with what the workloads need of it.
type site struct {
	*stack.Stack
	prefix   string // of progress lines
	clients  int
	rate     float64     // of the open loop
	accounts []uuid.UUID // that the load is spread over; they have money

	gateway, payments *load.Client
	orders, billing   *sqlx.DB          // the databases of orders and payments, as their owners
	admin             *sqlx.DB          // the server's database, as its superuser
	metrics           map[string]string // where each service's metrics are
}

// services are Altyn's own parts of a stack.
var services = []string{stack.Gateway, stack.Orders, stack.Payments}

// start brings up a stack with one instance of each service.
func start(ctx context.Context, opts stack.Options) (_ *site, err error) {
	opts.Services = stack.Instances(1, 1, 0)
	port, err := stack.FreePort()
	if err != nil {
		return nil, err
	}
	metrics := map[string]string{}
	for i := range opts.Services {
		if service := &opts.Services[i]; service.Program == stack.Gateway {
			service.AdminAddr = fmt.Sprintf("127.0.0.1:%d", port)
			metrics[stack.Gateway] = "http://" + service.AdminAddr + "/metrics"
		}
	}
	running, err := stack.Start(ctx, opts)
	if err != nil {
		return nil, err
	}
	s := &site{Stack: running, metrics: metrics}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	for _, name := range []string{stack.Orders, stack.Payments} {
		metrics[name] = running.URL(name) + "/metrics"
	}
	s.gateway, s.payments = load.New(running.URL(stack.Gateway)), load.New(running.URL(stack.Payments))
	for name, db := range map[string]**sqlx.DB{stack.Orders: &s.orders, stack.Payments: &s.billing} {
		cfg, err := running.Database(name)
		if err != nil {
			return nil, err
		}
		if *db, err = pg.OpenOwner(cfg); err != nil {
			return nil, err
		}
	}
	admin := running.Server().Admin()
	// without a service's time limit: a checkpoint may take long
	admin.Owner, admin.OwnerPassword = admin.User, admin.Password
	s.admin, err = pg.OpenOwner(admin)
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

// funds is what an account of the load gets, enough for any number of orders of 1.00 RUB.
const (
	funds         = "1000000000.00"
	fundsInMinor  = 100_000_000_000
	amountInMinor = 100 // of an order
	currency      = "RUB"
)

// open opens accounts with money for the load.
func (s *site) open(ctx context.Context, accounts int) (err error) {
	s.accounts, err = s.gateway.Accounts(ctx, accounts, s.clients, funds, currency)
	return err
}

// audit checks the books and says what it found.
func (s *site) audit(ctx context.Context) (string, error) {
	began := time.Now()
	books, err := audit.AtRest(ctx, s.orders, s.billing)
	if err != nil {
		return "", fmt.Errorf("the books are wrong: %w", err)
	}
	return fmt.Sprintf("the books are right: %s orders and their payments agree, the entries of %s operations add up "+
		"(audited in %s)",
		grouped(books.Orders), grouped(books.Operations), time.Since(began).Round(100*time.Millisecond)), nil
}

// peakRSS returns the most memory that each service ever had, in bytes.
func (s *site) peakRSS() (map[string]int64, error) { return s.memory("VmHWM") }

func (s *site) memory(field string) (map[string]int64, error) {
	bytes := map[string]int64{}
	for _, name := range services {
		n, err := memory(procDir, s.Part(name).PID, field)
		if err != nil {
			return nil, err
		}
		if n > 0 { // else the system does not tell
			bytes[name] = n
		}
	}
	return bytes, nil
}

// goroutines counts each service's goroutines, as its metrics say.
func (s *site) goroutines(ctx context.Context) (map[string]int64, error) {
	counts := map[string]int64{}
	for _, name := range services {
		n, err := gauge(ctx, s.metrics[name], "go_goroutines")
		if err != nil {
			return nil, fmt.Errorf("metrics of %s: %w", name, err)
		}
		counts[name] = int64(n)
	}
	return counts, nil
}

// gauge reads a metric without labels.
func gauge(ctx context.Context, url, name string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return strconv.ParseFloat(text, 64)
		}
	}
	return 0, errors.Join(fmt.Errorf("%s has no %s (%s)", url, name, response.Status), lines.Err())
}
