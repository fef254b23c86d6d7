package main

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/orders/internal/api"
	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/service"
	"github.com/altyn-pay/altyn/testkit/kafkatest"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

// What was moved to the archive is read, repeated and cancelled as before.
func TestArchive(t *testing.T) {
	t.Parallel()
	db, broker := postgrestest.Database(t, "orders", postgres.Migrations()...), kafkatest.Broker(t)
	startPayments(t, broker)
	cfg := configuration(t, db, broker)
	p := start(t, cfg)
	account := uuid.NewString()
	type request struct{ path, body, key string }
	var keyed []request
	post := func(status int, path, amount string) (o api.Order) {
		t.Helper()
		r := request{path, fmt.Sprintf(`{"account_id": "%s", "amount": "%s", "currency": "RUB", "reference": "r"}`,
			account, amount), fmt.Sprint(len(keyed))}
		if path == "/api/v1/orders/batch" {
			r.body = `{"orders": [` + r.body + `,` + r.body + `]}`
		}
		keyed = append(keyed, r)
		code, answer := p.call(t, "POST", path, r.body, "Idempotency-Key", r.key)
		if err := json.Unmarshal(answer, &o); err != nil || code != status {
			t.Fatalf("POST %s %s: %d %s", path, r.body, code, answer)
		}
		return o
	}
	paid := post(201, "/api/v1/orders?wait=30s", "10.00")
	failed := post(201, "/api/v1/orders?wait=30s", "1000.00")
	post(200, "/api/v1/orders/batch", "12.00")
	settled := func() {
		t.Helper()
		postgrestest.AwaitCount(t, db.Owner, 4, `SELECT count(*) FROM orders WHERE status IN ('paid', 'failed', 'cancelled')`)
		postgrestest.AwaitCount(t, db.Owner, 0, `SELECT count(*) FROM outbox`)
	}
	settled()
	reads := []string{"/api/v1/orders", "/api/v1/orders?account_id=" + account, "/api/v1/orders?reference=r&limit=2",
		"/api/v1/orders?status=failed", "/api/v1/orders/" + paid.ID.String(),
		"/api/v1/orders/" + paid.ID.String() + "/timeline", "/api/v1/orders/" + failed.ID.String() + "/explain",
		"/api/v1/orders?from=2026-01-01T00:00:00Z"}
	answers := func() (all []string) {
		t.Helper()
		for _, read := range reads {
			code, answer := p.call(t, "GET", read, "")
			if code != 200 {
				t.Errorf("GET %s: %d %s", read, code, answer)
			}
			all = append(all, string(answer))
		}
		return all
	}
	move := func(rows int64) {
		t.Helper()
		moved, err := pg.Archive(t.Context(), db.Owner, postgres.Archived, pg.Archiving{
			Before: time.Now().Add(time.Hour), Load: 100, Progress: func(string, int64, int64) {}})
		if err != nil || moved != rows {
			t.Fatalf("%d rows were moved, want %d: %v", moved, rows, err)
		}
	}
	same := func(before []string) {
		t.Helper()
		for i, after := range answers() {
			if after != before[i] {
				t.Errorf("GET %s was\n%s\nand is\n%s", reads[i], before[i], after)
			}
		}
	}
	before := answers()
	move(8) // with a line of the history each
	same(before)
	for _, r := range keyed {
		code, answer := p.call(t, "POST", r.path, r.body, "Idempotency-Key", r.key)
		if code != 201 && code != 200 {
			t.Errorf("POST %s %s again: %d %s", r.path, r.body, code, answer)
		}
	}
	settled()
	same(before)

	// It is cancelled there, and new lines of its history are moved later.
	if code, answer := p.call(t, "POST", "/api/v1/orders/"+paid.ID.String()+"/cancel", `{}`); code != 202 {
		t.Fatalf("%d %s", code, answer)
	}
	postgrestest.AwaitCount(t, db.Owner, 1, `SELECT count(*) FROM archive.orders WHERE id = $1 AND status = $2`, paid.ID,
		order.Cancelled)
	post(201, "/api/v1/orders?wait=30s", "13.00")
	before = answers()
	move(1 + 3)
	same(before)
	if err := service.AuditBooks(t.Context(), t.Output(), newProgram(cfg),
		service.Audit{Load: 100, After: -1}); err != nil {
		t.Errorf("audit: %v", err)
	}
}

// Orders are moved while they are placed twice, settled and cancelled.
func TestOrdersAreMovedWhileTheyAreUsed(t *testing.T) {
	t.Parallel()
	db, broker := postgrestest.Database(t, "orders", postgres.Migrations()...), kafkatest.Broker(t)
	startPayments(t, broker)
	cfg := configuration(t, db, broker)
	p := start(t, cfg)
	moving, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		var err error
		for err == nil && moving.Err() == nil {
			_, err = pg.Archive(context.WithoutCancel(moving), db.Owner, postgres.Archived, pg.Archiving{
				Before: time.Now().Add(time.Hour), Load: 100, Progress: func(string, int64, int64) {}})
		}
		done <- err
	}()
	const rounds = 40
	account := uuid.NewString()
	for i := range rounds {
		var ids []uuid.UUID
		for range 2 {
			code, answer := p.call(t, "POST", "/api/v1/orders?wait=30s",
				`{"account_id": "`+account+`", "amount": "1.00", "currency": "RUB"}`, "Idempotency-Key", fmt.Sprint(i))
			var o api.Order
			if err := json.Unmarshal(answer, &o); err != nil || code != 201 || o.Status != order.Paid {
				t.Fatalf("%d %s", code, answer)
			}
			ids = append(ids, o.ID)
		}
		code, answer := p.call(t, "POST", "/api/v1/orders/"+ids[0].String()+"/cancel", `{}`)
		if code != 202 || ids[0] != ids[1] {
			t.Fatalf("of orders %v: %d %s", ids, code, answer)
		}
	}
	postgrestest.AwaitCount(t, db.Owner, rounds, `SELECT count(*) FROM orders WHERE status = 'cancelled'`)
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	postgrestest.AwaitCount(t, db.Owner, rounds, `SELECT count(*) FROM orders`)
	if err := service.AuditBooks(t.Context(), t.Output(), newProgram(cfg),
		service.Audit{Load: 100, After: -1}); err != nil {
		t.Errorf("audit: %v", err)
	}
}
