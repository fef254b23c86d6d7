package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/outbox"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

// channel is a broker that hands on what is published. With Kafka it is kafka.NewPublisher.
type channel chan outbox.Message

func (c channel) Publish(_ context.Context, messages []outbox.Message) []error {
	for _, m := range messages {
		c <- m
	}
	return make([]error, len(messages)) // all of them are acknowledged
}

func (c channel) Retry(ctx context.Context, messages []outbox.Message) []error {
	return c.Publish(ctx, messages)
}

func (c channel) Permanent(error) bool { return false }

// A transaction changes a row and says so. The message is published if, and only if, the transaction commits.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	db, drop, err := postgrestest.Open(ctx, "shop", outbox.Migrations())
	if err != nil {
		fmt.Println(err)
		return
	}
	published := make(channel)
	relay := outbox.NewRelay(db.Service, published, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	done := make(chan error)
	go func() { done <- relay.Run(ctx) }()

	say := func(payload string, err error) error {
		return pg.InTx(ctx, db.Service, func(tx *sqlx.Tx) error {
			// … change the rows that the message is about, with tx.
			m := outbox.Message{ID: uuid.New(), Type: "price.changed", Topic: "prices", Key: "apples", Payload: payload}
			return errors.Join(outbox.Append(ctx, tx, m), err)
		})
	}
	fmt.Println(say(`{"price":"1.20"}`, nil))
	fmt.Println(say(`{"price":"-1.00"}`, errors.New("no negative prices"))) // rolled back
	fmt.Println(say(`{"price":"1.30"}`, nil))
	relay.Wake()
	for range 2 {
		m := <-published
		fmt.Println(m.Topic, m.Key, m.Type, m.Payload)
	}

	stop()
	fmt.Println(<-done, drop())
	// Output:
	// <nil>
	// no negative prices
	// <nil>
	// prices apples price.changed {"price":"1.20"}
	// prices apples price.changed {"price":"1.30"}
	// <nil> <nil>
}
