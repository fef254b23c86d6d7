// Package api is the HTTP interface of orders: it decodes requests, has package placing do what they ask, and encodes
// the answers.
package api

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/placing"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/money"
	"github.com/altyn-pay/altyn/platform/watch"
)

// Path is where the orders are.
const Path = "/api/v1/orders"

// API serves the orders.
type API struct {
	orders     *placing.Service
	store      *postgres.Store // read only
	currencies *money.Currencies
	changes    *watch.Hub[order.Order]
	streams    atomic.Int64 // open ones
}

// New makes the API. changes tells of orders whose status has changed.
func New(orders *placing.Service, store *postgres.Store, currencies *money.Currencies, changes *watch.Hub[order.Order],
	metrics prometheus.Registerer) *API {
	a := &API{orders: orders, store: store, currencies: currencies, changes: changes}
	metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "altyn_orders_streams", Help: "Open streams of an order's status.",
	}, func() float64 { return float64(a.streams.Load()) }))
	return a
}

// Mount adds the routes.
func (a *API) Mount(router chi.Router) {
	router.Post(Path, httpserver.Handle(a.place, "wait"))
	router.Post(Path+"/batch", httpserver.Handle(a.placeBatch))
	router.Get(Path, httpserver.Handle(a.list, "account_id", "status", "reference", "limit", "cursor"))
	router.Get(Path+"/{id}", httpserver.Handle(a.get, "wait"))
	router.Post(Path+"/{id}/cancel", httpserver.Handle(a.cancel, "wait"))
	router.Get(Path+"/{id}/timeline", httpserver.Handle(a.timeline))
	router.Get(Path+"/{id}/stream", httpserver.Handle(a.stream))
}

// watch begins to watch an order. Call it before the order is read or changed, so that no change is missed. await
// returns the order once it is settled, or its latest state when the wait is over, the client leaves or the server
// drains; without a wait it returns at once. done ends the watch.
func (a *API) watch(id uuid.UUID, wait time.Duration) (
	await func(context.Context, order.Order) order.Order, done func()) {
	if wait <= 0 {
		return func(_ context.Context, o order.Order) order.Order { return o }, func() {}
	}
	changes := a.changes.Subscribe(id)
	return func(ctx context.Context, o order.Order) order.Order {
		changes.Seen(o)
		timer := time.NewTimer(wait)
		defer timer.Stop()
		for !o.Status.Settled() {
			select {
			case o = <-changes.Changes():
			case <-timer.C:
				return o
			case <-ctx.Done():
				return o
			case <-httpserver.Draining(ctx).Done():
				return o
			}
		}
		return o
	}, changes.Close
}
