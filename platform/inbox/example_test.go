package inbox_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing/fstest"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/inbox"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

// earned is what a message says.
type earned struct {
	Points int `json:"points"`
}

var tables = pg.Migrations{Name: "points", FS: fstest.MapFS{"00001_points.sql": {Data: []byte(`-- +goose Up
	CREATE TABLE purchases (id uuid PRIMARY KEY, points int NOT NULL);`)}}}

// A message has its effect once, however often it is accepted.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	db, drop, err := postgrestest.Open(ctx, "points", inbox.Migrations(), tables)
	if err != nil {
		fmt.Println(err)
		return
	}
	committed := make(chan struct{}, 3)
	// settle gives a batch its effect: a row for each message. The row is also how a message that comes again is
	// recognised.
	settle := func(ctx context.Context, tx *sqlx.Tx, batch []inbox.Message[earned]) (func(), error) {
		ids, points := make(pg.UUIDs, len(batch)), make(pg.Int32s, len(batch))
		for i, m := range batch {
			ids[i] = m.ID
			points[i] = int32(m.Body.Points)
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO purchases (id, points) SELECT * FROM unnest($1::uuid[], $2::int[])
			ON CONFLICT DO NOTHING`, ids, points)
		return func() { committed <- struct{}{} }, err
	}
	box := inbox.New(db.Service, inbox.JSON[earned]())
	worker := inbox.NewWorker(box, settle, inbox.DefaultRetry, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	intake := inbox.NewIntake(box, worker)
	done := make(chan error)
	go func() { done <- worker.Run(ctx) }() // settles what has others ahead of it, or is tried again

	customer := uuid.New()
	purchase := inbox.Message[earned]{
		ID: uuid.New(), AccountID: customer, Lane: contract.Lane(customer), Kind: "purchase", Body: earned{Points: 30},
	}
	accept := func() {
		if _, err := intake.Accept(ctx, purchase); err != nil {
			fmt.Println(err)
		}
	}
	accept()
	<-committed
	accept()
	accept()
	var total int
	err = db.Service.GetContext(ctx, &total, `SELECT sum(points) FROM purchases`)
	fmt.Println(total, err)

	stop()
	fmt.Println(<-done, drop())
	// Output:
	// 30 <nil>
	// <nil> <nil>
}
