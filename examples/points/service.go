package main

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/inbox"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/outbox"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

//go:embed migrations/*.sql
var files embed.FS

func migrations() []pg.Migrations {
	return []pg.Migrations{outbox.Migrations(), inbox.Migrations(), pg.Embedded("points", files)}
}

// Purchase is what earns points.
type Purchase struct {
	ID       uuid.UUID `json:"id"`
	Customer uuid.UUID `json:"customer"`
	Points   int64     `json:"points"`
}

// message is what the inbox gets of a purchase. The purchase's ID is the message's, so a purchase counts once.
func (p Purchase) message() (inbox.Message[Purchase], error) {
	if p.ID == uuid.Nil || p.Customer == uuid.Nil || p.Points <= 0 {
		return inbox.Message[Purchase]{}, errors.New("id, customer and points are required")
	}
	return inbox.Message[Purchase]{
		ID: p.ID, AccountID: p.Customer, Lane: contract.Lane(p.Customer), Kind: "purchase", Body: p,
	}, nil
}

// settle adds the points of a batch of purchases in the inbox's transaction, and appends an event with each new total.
// Purchases that are there already add nothing.
func settle(ctx context.Context, tx *sqlx.Tx, batch []inbox.Message[Purchase]) error {
	ids, customers, points := make(pg.UUIDs, len(batch)), make(pg.UUIDs, len(batch)), make(pg.Int64s, len(batch))
	for i, m := range batch {
		ids[i] = m.ID
		customers[i] = m.AccountID
		points[i] = m.Body.Points
	}
	var totals []struct{ Customer, Event string }
	if err := tx.SelectContext(ctx, &totals, `
		WITH fresh AS (
			INSERT INTO purchases (id, customer_id, points) SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bigint[])
			ON CONFLICT DO NOTHING RETURNING customer_id, points)
		INSERT INTO totals (customer_id, points) SELECT customer_id, sum(points) FROM fresh GROUP BY customer_id
		ON CONFLICT (customer_id) DO UPDATE SET points = totals.points + excluded.points
		RETURNING customer_id AS customer, json_build_object('customer', customer_id, 'points', points) AS event`,
		ids, customers, points); err != nil {
		return err
	}
	events := make([]outbox.Message, len(totals))
	for i, total := range totals {
		events[i] = outbox.Message{
			ID: uuid.New(), Type: "points.changed", Topic: "points", Key: total.Customer, Subject: total.Customer,
			Lane: int16(contract.Partition(total.Customer, contract.Lanes)), Payload: total.Event,
		}
	}
	return outbox.Append(ctx, tx, events...)
}

// decode reads fetched records; for each it returns a message or the reason why it cannot be read.
func decode(_ context.Context, records []kafka.Message) ([]inbox.Message[Purchase], []error, error) {
	messages, reasons := make([]inbox.Message[Purchase], len(records)), make([]error, len(records))
	for i, record := range records {
		reasons[i] = kafka.Read(record, func() (err error) {
			var p Purchase
			if err = json.Unmarshal(record.Value, &p); err == nil {
				messages[i], err = p.message()
			}
			return err
		})
	}
	return messages, reasons, nil
}

// accept is POST /purchases. After 204 the purchase is safe, and counts once however often it is sent.
func accept(intake *inbox.Intake[Purchase]) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var p Purchase
		err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<10)).Decode(&p)
		m, invalid := p.message()
		if err = errors.Join(err, invalid); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if _, err := intake.Accept(r.Context(), m); err != nil {
			slog.Error("purchase not accepted", "error", err)
			http.Error(w, "try again", http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, database pg.Config, broker kafka.Config, server httpserver.Server) error {
	log, metrics := slog.Default(), prometheus.NewRegistry()
	db, err := pg.Open(database)
	if err != nil {
		return err
	}
	defer db.Close()
	producer, err := kafka.NewProducer(broker, log, metrics)
	if err != nil {
		return err
	}
	defer producer.Close()
	consumer, err := kafka.NewConsumer(broker, "points", []string{"purchases"}, log, metrics)
	if err != nil {
		return err
	}
	relay := outbox.NewRelay(db, kafka.NewPublisher(producer, "/points"), log, metrics)
	handle := func(ctx context.Context, tx *sqlx.Tx, batch []inbox.Message[Purchase]) (func(), error) {
		return relay.Wake, settle(ctx, tx, batch)
	}
	box := inbox.New(db, inbox.JSON[Purchase]())
	worker := inbox.NewWorker(box, handle, inbox.DefaultRetry, log, metrics)
	intake := inbox.NewIntake(box, worker)
	receiver := inbox.NewReceiver(intake, decode, nil)
	receive := func(ctx context.Context, records []kafka.Message) error {
		unreadable, reasons, err := receiver.Receive(ctx, records)
		if err != nil || len(unreadable) == 0 {
			return err
		}
		return producer.DeadLetters(ctx, unreadable, reasons, park)
	}
	router := http.NewServeMux()
	router.Handle("POST /purchases", accept(intake))
	server.Handler, server.Logger = router, log

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return kafka.KeepTopics(ctx, broker, log, "purchases", "purchases.dlq", "points") })
	group.Go(func() error { return consumer.Run(ctx, receive) })
	group.Go(func() error { return worker.Run(ctx) })
	group.Go(func() error { return relay.Run(ctx) })
	group.Go(func() error { return httpserver.Run(ctx, server) })
	return group.Wait()
}

// park gets what the broker does not take as a dead letter either, which does not happen to a record that
// it took before. Until it returns nil nothing else is consumed. A service that cannot afford that keeps
// the record: see inbox.Park.
func park(context.Context, []kafka.Message, []error) error {
	return errors.New("refused as a dead letter")
}
