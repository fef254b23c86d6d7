// Package api is the HTTP interface of orders: it decodes requests, has package placing do what they ask, and encodes
// the answers.
package api

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/placing"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/identity"
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

// Routes are those of the API.
func (a *API) Routes() []httpserver.Route {
	return []httpserver.Route{
		httpserver.NewRoute("POST", Path, identity.OrdersWrite, httpserver.Handle(a.place, "wait")),
		httpserver.NewRoute("POST", Path+"/batch", identity.OrdersWrite, httpserver.Handle(a.placeBatch)),
		httpserver.NewRoute("GET", Path, identity.OrdersRead,
			httpserver.Handle(a.list, "account_id", "status", "reference", "limit", "cursor")),
		httpserver.NewRoute("GET", Path+"/{id}", identity.OrdersRead, httpserver.Handle(a.get, "wait")),
		httpserver.NewRoute("POST", Path+"/{id}/cancel", identity.OrdersWrite, httpserver.Handle(a.cancel, "wait")),
		httpserver.NewRoute("GET", Path+"/{id}/timeline", identity.OrdersRead, httpserver.Handle(a.timeline)),
		httpserver.NewRoute("GET", Path+"/{id}/stream", identity.OrdersRead, httpserver.Handle(a.stream)),
	}
}

// clientOf returns who asks. The route has judged the request.
func clientOf(ctx context.Context) placing.Client {
	return placing.Client{Reach: identity.ReachFrom(ctx), Subject: identity.FromContext(ctx).Subject}
}

// watch begins to watch an order. Call it before the order is read or changed, so that no change is missed. await
// returns the order once it is settled, or its latest state when the wait is over, the token expires, the client leaves
// or the server drains; without a wait it returns at once. done ends the watch.
func (a *API) watch(id uuid.UUID, wait time.Duration) (
	await func(context.Context, order.Order) order.Order, done func()) {
	if wait <= 0 {
		return func(_ context.Context, o order.Order) order.Order { return o }, func() {}
	}
	changes := a.changes.Subscribe(id)
	return func(ctx context.Context, o order.Order) order.Order {
		changes.Seen(o)
		ctx, cancel := identity.UntilExpired(ctx)
		defer cancel()
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
