// Command payments is the billing core of Altyn: accounts and their money over HTTP and as commands over Kafka, and the
// payment of orders.
package main

// The general part of the specification, which is generated from the comments of the handlers; run go generate after a
// change.
//
//go:generate go tool swag init --quiet --dir .,../../internal/api,../../../platform/operators --generalInfo main.go --output ../../docs --outputTypes json --parseDependencyLevel 1 --requiredByDefault
//go:generate go run ../../../deploy/cmd/specification document ../../docs
//go:generate go test ../../internal/api -run ^TestDocumentSaysWhatTheRoutesNeed$ -update

//	@title			Altyn payments
//	@version		1
//	@description	Accounts in several currencies, and the payments of orders. Amounts are decimal strings, times are RFC 3339 in UTC,
//	@description	errors are application/problem+json (RFC 9457) with a code from a closed list.
//	@license.name	Apache-2.0
//	@license.url	https://www.apache.org/licenses/LICENSE-2.0
//	@BasePath		/
//
//	@tag.name		accounts
//	@tag.description	clients and what they have
//	@tag.name		operations
//	@tag.description	deposits, withdrawals and transfers
//	@tag.name		holds
//	@tag.description	money that is set aside
//	@tag.name		payments
//	@tag.description	of orders: confirm, reject and refund them
//	@tag.name		currencies
//	@tag.description	and their numbers of decimal digits
//	@tag.name		operators
//	@tag.description	on the operators' plane, which has an address of its own; the gateway does not serve it

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/inbox"
	"github.com/altyn-pay/altyn/platform/operators"
	"github.com/altyn-pay/altyn/platform/outbox"
	"github.com/altyn-pay/altyn/platform/parked"
	"github.com/altyn-pay/altyn/platform/service"
	"github.com/altyn-pay/altyn/platform/swagger"

	"github.com/altyn-pay/altyn/payments/docs"
	"github.com/altyn-pay/altyn/payments/internal/api"
	"github.com/altyn-pay/altyn/payments/internal/billing"
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/payments/internal/rpc"
	"github.com/altyn-pay/altyn/payments/internal/settlement"
)

const (
	name  = "payments"
	about = `payments is the billing core of Altyn: accounts in several currencies over HTTP and as commands over Kafka,
and the payment of orders, which it receives and answers over Kafka. It waits until its database is migrated.`
)

// Config is all that can be set.
type Config struct {
	Addr      string        `env:"PAYMENTS_ADDR" default:":8081" help:"address of the HTTP server of payments"`
	AdminAddr string        `env:"PAYMENTS_ADMIN_ADDR" default:":8181" help:"address of the operators' plane of payments: /metrics, /admin, profiles"`
	HealAfter time.Duration `env:"PAYMENTS_HEAL_AFTER" default:"1m" help:"how long after a refund orders is told of it again, in case the broker has lost the event; three more times follow with growing pauses"`
	service.Config
}

// Validate checks the address and the time.
func (c Config) Validate() error {
	var wrong error
	if c.HealAfter < time.Second || c.HealAfter > maxHealAfter {
		wrong = config.Invalid("PAYMENTS_HEAL_AFTER", "must be from 1s to %s", maxHealAfter)
	}
	return errors.Join(c.HTTP.CheckAddrs(c.Auth.On(),
		map[string]string{"PAYMENTS_ADDR": c.Addr, "PAYMENTS_ADMIN_ADDR": c.AdminAddr}), wrong)
}

const maxHealAfter = 24 * time.Hour

func program(cfg Config) service.Program { return newProgram(cfg, inbox.DefaultRetry) }

func newProgram(cfg Config, retry inbox.Retry) service.Program {
	return service.Program{
		Name: name, Addr: cfg.Addr, AdminAddr: cfg.AdminAddr, Config: cfg.Config,
		Migrations: postgres.Migrations(), Amounts: []string{"balances", "operations"}, Books: postgres.Books,
		Topics: topics, Reads: reads,
		Classify: billing.Problem, Render: rpc.Render,
		Restored: restored, Erasure: erasure, Archived: postgres.Archived,
		Acknowledged: postgres.Acknowledged,
		Build:        func(p *service.Process) error { return build(p, retry, cfg.HealAfter) },
	}
}

// restored begins an epoch, so that what payments says from now on counts more than what it has said before.
func restored(ctx context.Context, r service.Restoring) error {
	number, err := postgres.BeginEpoch(ctx, r.Owner, r.To)
	if err != nil {
		return err
	}
	fmt.Fprintf(r.Out, "epoch %d begins\n", number)
	return nil
}

func main() {
	p := service.New(name, about, program)
	p.Commands = append(p.Commands, commands()...)
	os.Exit(p.Main())
}

// build puts together what the process's role asks for.
func build(p *service.Process, retry inbox.Retry, healAfter time.Duration) error {
	store := postgres.New(p.DB)
	results := billing.NewResults(store, p.Log)
	intake := inbox.NewIntake(store.Inbox(), nil)
	wake, wakeRelay := func() {}, func() {}
	if p.Config.Role != service.API {
		pipe, err := newPipeline(p, store, results, retry, healAfter)
		if err != nil {
			return err
		}
		intake, wake, wakeRelay = pipe.intake, pipe.worker.Wake, pipe.relay.Wake
		p.Go(pipe.run)
	}
	discardable := func(kind string) bool { return ledger.Kind(kind).Discardable() }
	sources := []parked.Source{inbox.NewParked(p.DB, discardable, wake), outbox.NewParked(p.DB, wakeRelay)}
	p.MountAdmin(operators.NewAPI(p.DB, p.Log, sources...).
		Reconciling(store.Reconciled(), settlement.Announcing(store, wake)).Routes()...)
	pages, err := swagger.Routes(name, docs.Document, operators.Serves, p.Tokens.Login)
	if err != nil {
		return err
	}
	p.MountAdmin(pages...)
	if p.Config.Role == service.Worker {
		return nil
	}
	p.Go(func(ctx context.Context) error { return results.Run(ctx, nil) })
	backlog := outbox.NewBacklog(p.DB, p.Config.Outbox, p.Log, p.Metrics)
	p.Go(backlog.Run)
	core := billing.New(store, p.Currencies, results, intake, backlog.Full)
	p.Mount(api.New(core, store, p.Currencies).Routes()...)
	calls := rpc.New(core, p.Health.IsReady)
	p.Mount(calls.Routes()...)
	p.MountAdmin(calls.Reflection()...)
	p.H2C = true
	pages, err = swagger.Routes(name, docs.Document, func(path string) bool { return !operators.Serves(path) },
		p.Tokens.Login)
	p.Mount(pages...)
	return err
}
