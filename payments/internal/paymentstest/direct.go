package paymentstest

import (
	"context"
	"log/slog"
	"testing"

	"github.com/altyn-pay/altyn/payments/internal/api"
	"github.com/altyn-pay/altyn/payments/internal/billing"
	"github.com/altyn-pay/altyn/payments/internal/broker"
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/payments/internal/rpc"
	"github.com/altyn-pay/altyn/payments/internal/settlement"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity/bearer"
	"github.com/altyn-pay/altyn/platform/inbox"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/money"
	"github.com/altyn-pay/altyn/platform/outbox"
	"github.com/altyn-pay/altyn/platform/service"
	"github.com/altyn-pay/altyn/testkit/outboxtest"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// Setup starts one instance of each role, of the service without its broker: what it publishes stays in the outbox,
// and what is produced goes into the inbox.
func Setup(t *testing.T, roles ...service.Role) *Bundle {
	t.Helper()
	b := New(t, service.Program{
		Name: "payments", Migrations: postgres.Migrations(), Amounts: []string{"balances", "operations"},
		Classify: billing.Problem, Render: rpc.Render, Build: build,
	})
	b.Broker = direct{b}
	for _, role := range roles {
		b.Start(role)
	}
	return b
}

func build(p *service.Process) error {
	store := postgres.New(p.DB)
	results := billing.NewResults(store, p.Log)
	intake := inbox.NewIntake(store.Inbox(), nil)
	if p.Config.Role != service.API {
		var worker *inbox.Worker[*ledger.Request]
		settle := settlement.New(store, p.Currencies, p.Log, p.Metrics, func(result settlement.Result) {
			for _, op := range result.Operations {
				results.Publish(op.ID, op)
			}
			if result.More {
				worker.Wake()
			}
		})
		worker = inbox.NewWorker(store.Inbox(), settle.Settle, inbox.DefaultRetry, p.Log, p.Metrics)
		worker.Tracer = p.Tracer
		intake = inbox.NewIntake(store.Inbox(), worker)
		p.Go(worker.Run)
		p.Go(settlement.Expiry(store, p.Tracer, p.Log, worker.Wake).Run)
	}
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
	return nil
}

// direct is a broker between whose topics and the service's tables there is nothing.
type direct struct{ b *Bundle }

// Produce decodes messages and stores them for the workers.
func (d direct) Produce(t testing.TB, messages ...kafka.Message) {
	t.Helper()
	currencies, err := money.LoadCurrencies(d.b.Settings.Currencies)
	if err != nil {
		t.Fatal(err)
	}
	store := postgres.New(d.b.Service)
	decoder := broker.NewDecoder(store, currencies, func(_ context.Context, topic string) (bool, error) {
		return topic == contract.TopicReplies, nil
	})
	access := broker.NewAccess(bearer.New(d.b.Settings.Auth, slog.New(slog.DiscardHandler)), nil, nil)
	records, err := access.Judge(t.Context(), messages)
	if err != nil {
		t.Fatal(err)
	}
	receiver := inbox.NewReceiver(inbox.NewIntake(store.Inbox(), nil), decoder.Decode, broker.Repeated)
	if _, unreadable, err := receiver.Receive(t.Context(), records); err != nil || len(unreadable) > 0 {
		t.Fatalf("%v; cannot be read: %v", err, unreadable)
	}
}

// Messages reads the outbox.
func (d direct) Messages(t testing.TB, topic string,
	done func(messages []kafka.Message) bool) (messages []kafka.Message) {
	t.Helper()
	wait.Until(t, "enough messages on "+topic, func() bool {
		messages = nil
		for _, m := range outboxtest.Messages(t, d.b.Owner) {
			if m.Topic != topic {
				continue
			}
			event := kafka.Event{
				ID: m.ID.String(), Type: m.Type, Source: "/payments", Subject: m.Subject, Traceparent: m.Traceparent,
			}
			messages = append(messages, kafka.Message{
				Topic: topic, Offset: int64(len(messages)), Key: []byte(m.Key), Value: []byte(m.Payload), Headers: event.Headers(),
			})
		}
		return done(messages)
	})
	return messages
}
