package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/reconcile"
)

// plane is an operators' plane with some orders, all of them in one bucket.
type plane struct {
	orders  []reconcile.Order
	changes func(named int) // is called before named orders are listed, for the n-th time
	named   int
}

func (p *plane) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if r.URL.Path == "/admin/digests" {
		text, _ := json.Marshal(p.orders)
		_ = json.NewEncoder(w).Encode(reconcile.Page{To: uuid.Max,
			Items: []reconcile.Digest{{Bucket: 1, Count: int64(len(p.orders)), Hash: string(text)}}})
		return
	}
	if r.URL.Query().Has("ids") {
		if p.named++; p.changes != nil {
			p.changes(p.named)
		}
	}
	_ = json.NewEncoder(w).Encode(reconcile.Orders{Now: contract.Time(now), Items: p.orders})
}

var now = time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)

// What was changed a moment ago, by either service's clock, is under way, and so is what changes while it is looked at
// again; what differs for longer and stays as it is, is wrong.
func TestUnderWayOrWrong(t *testing.T) {
	at := func(n byte, age time.Duration, status string, version int64) reconcile.Order {
		return reconcile.Order{ID: uuid.UUID{15: n}, Status: status, Version: version,
			UpdatedAt: contract.Time(now.Add(-age))}
	}
	const old, young = time.Hour, 59 * time.Second
	orders := &plane{orders: []reconcile.Order{
		at(1, old, "paid", 1), at(2, young, "pending", 0), at(3, old, "pending", 0), at(4, old, "paid", 1),
		at(5, old, "pending", 0), at(6, old, "pending", 0),
	}}
	payments := &plane{orders: []reconcile.Order{
		at(1, young, "paid", 1), at(2, old, "paid", 1), at(3, young, "paid", 1), at(4, old, "failed", 1),
		at(5, old, "paid", 1), at(7, old, "paid", 1),
	}}
	orders.changes = func(named int) { // 5 arrives while it is looked at again
		if named == 1 {
			orders.orders[4] = at(5, 0, "paid", 1)
		}
	}
	a, b := httptest.NewServer(orders), httptest.NewServer(payments)
	defer a.Close()
	defer b.Close()
	c := comparison{orders: newSide("orders", a.URL, ""), payments: newSide("payments", b.URL, ""), inFlight: time.Minute}
	if err := c.run(context.Background()); err != nil {
		t.Fatal(err)
	}
	var wrong []byte
	for _, p := range c.wrong {
		wrong = append(wrong, p.id()[15])
	}
	if !slices.Equal(wrong, []byte{4, 6, 7}) || c.moving != 3 || c.compared != 6 {
		t.Errorf("wrong are %v, %d are under way of %d", wrong, c.moving, c.compared)
	}
	if len(c.wrong) == 3 && (c.wrong[0].healer(c.orders, c.payments) != nil ||
		c.wrong[1].healer(c.orders, c.payments) != c.orders || c.wrong[2].healer(c.orders, c.payments) != nil) {
		t.Error("an order at its end, or one that only payments knows, is healed, or a pending one is not")
	}
}
