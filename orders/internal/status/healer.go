package status

import (
	"context"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/money"
	"github.com/altyn-pay/altyn/platform/stage"
)

const (
	// A round looks at this many watched orders at most, and announces this many again.
	maxLooks = 5000
	maxAsked = 1000

	// There are this many rounds in the time that an order is given, but none more often than minRound.
	rounds   = 30
	minRound = 50 * time.Millisecond
	maxRound = 2 * time.Second
)

// Healer announces an order again once it has been pending or cancelling for too long without a reason to wait: its
// event, or the answer, may have been lost after a broker had acknowledged it. Payments answers with the payment's
// present state. The healer also asks about orders that do wait for something, though far more rarely: their last event
// may be lost as well.
//
// Any number of processes may run one. They take turns, so the rate is bounded for all of them together.
type Healer struct {
	store      *postgres.Store
	currencies *money.Currencies
	patience   time.Duration
	wake       func()
	log        *slog.Logger

	announced *prometheus.CounterVec
	healed    prometheus.Counter
}

// NewHealer makes a healer. patience is how long an order may take without a reason. After a commit the healer calls
// wake where there are events to publish.
func NewHealer(store *postgres.Store, currencies *money.Currencies, patience time.Duration, wake func(),
	log *slog.Logger, metrics prometheus.Registerer) *Healer {
	h := &Healer{
		store: store, currencies: currencies, patience: patience, wake: wake, log: log,
		announced: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "altyn_orders_announced_again_total", Help: "Events of orders published again because no answer had come.",
		}, []string{"event"}),
		healed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "altyn_orders_healed_total", Help: "Orders that went on after they had been announced again."}),
	}
	metrics.MustRegister(h.announced, h.healed, store.OverdueGauges(patience))
	return h
}

// every is the time between two rounds of one process.
func (h *Healer) every() time.Duration { return min(max(h.patience/rounds, minRound), maxRound) }

// Run works until ctx ends, then returns nil. It survives the loss of the database.
func (h *Healer) Run(ctx context.Context) error {
	return stage.Loop{Name: "healer", Log: h.log, Every: h.every(), Once: h.runOnce}.Run(ctx)
}

// round is what one round has done.
type round struct {
	asked  []postgres.Unsettled
	healed []order.Order
}

// runOnce does a round when it is time for one and no other process does it. It returns how many orders it announced.
func (h *Healer) runOnce(ctx context.Context) (int, error) {
	var done round
	if err := h.store.InTx(ctx, func(tx *sqlx.Tx) error {
		done = round{}
		now, ok, err := h.store.TakeTurn(ctx, tx, h.every()*3/4) // a loop is not exact
		if err != nil || !ok {
			return err
		}
		if err := h.store.Sweep(ctx, tx, h.patience); err != nil {
			return err
		}
		done, err = h.look(ctx, tx, now)
		return err
	}); err != nil {
		return 0, err
	}
	h.report(done)
	return len(done.asked), nil
}

// look decides about the watched orders that are due, and stores what it decides.
func (h *Healer) look(ctx context.Context, tx *sqlx.Tx, now time.Time) (done round, err error) {
	due, err := h.store.Due(ctx, tx, maxLooks)
	if err != nil || len(due) == 0 {
		return done, err
	}
	var (
		asked   []postgres.Unsettled // to announce again
		changed []postgres.Unsettled // to look at later
		settled []uuid.UUID          // to forget
	)
	for _, u := range due {
		next, ask, watch := u.Watched.Look(&u.Order, now, h.patience)
		if ask && len(asked) == maxAsked {
			continue // it stays due
		}
		if u.Watched.Healed(&u.Order, h.patience) {
			done.healed = append(done.healed, u.Order)
		}
		u.Watched = next
		switch {
		case !watch:
			settled = append(settled, u.Order.ID)
		case ask:
			asked = append(asked, u)
		default:
			changed = append(changed, u)
		}
	}
	held, err := h.store.Held(ctx, tx, asked, h.patience)
	if err != nil {
		return done, err
	}
	var events []order.Event
	for _, u := range asked {
		if held[u.Order.ID] { // it is not asked about in this round after all
			u.Watched.Asked--
			u.Watched.AskedAt = time.Time{}
			u.Watched.DueAt = now.Add(h.patience)
			changed = append(changed, u)
			continue
		}
		event, err := announcement(h.currencies, u.Order, u.Cancellation)
		if err != nil {
			return done, err
		}
		events = append(events, event)
		done.asked = append(done.asked, u)
		changed = append(changed, u)
	}
	if err := h.store.Announce(ctx, tx, events...); err != nil {
		return done, err
	}
	return done, h.store.SaveUnsettled(ctx, tx, changed, settled)
}

// announcement is the last event of an order once more, marked as repeated.
func announcement(currencies *money.Currencies, o order.Order, c postgres.Cancellation) (order.Event, error) {
	if o.Status == order.Cancelling {
		return o.CancelledEvent(currencies, c.Note, c.At, true)
	}
	return o.PlacedEvent(currencies, true)
}

// Announcing announces orders again at an operator's wish, and then calls wake. It leaves those out that are settled: a
// payment that is not there would take money, or would not take it, for an order that is at its end.
func Announcing(store *postgres.Store, currencies *money.Currencies, wake func()) func(
	context.Context, []uuid.UUID) (int, error) {
	return func(ctx context.Context, ids []uuid.UUID) (n int, err error) {
		err = store.InTx(ctx, func(tx *sqlx.Tx) error {
			n = 0
			orders, err := store.Lock(ctx, tx, ids)
			if err != nil {
				return err
			}
			cancelled, err := store.Cancellations(ctx, tx, ids)
			if err != nil {
				return err
			}
			for _, o := range orders {
				if o.Status.Settled() {
					continue
				}
				event, err := announcement(currencies, o, cancelled[o.ID])
				if err != nil {
					return err
				}
				if err := store.Announce(ctx, tx, event); err != nil {
					return err
				}
				n++
			}
			return nil
		})
		if err == nil && n > 0 {
			wake()
		}
		return n, err
	}
}

// report counts and logs what was committed.
func (h *Healer) report(done round) {
	for _, o := range done.healed {
		h.log.Info("order healed: it went on after it was announced again", "order_id", o.ID, "status", o.Status,
			"account_id", o.AccountID, "tenant", o.Tenant)
	}
	h.healed.Add(float64(len(done.healed)))
	for _, u := range done.asked {
		level, event := slog.LevelInfo, contract.OrderPlacedType
		if u.Order.Waits() { // as far as is known, nothing is wrong
			level = slog.LevelDebug
		} else if u.Order.Status == order.Cancelling {
			event = contract.OrderCancelledType
		}
		h.announced.WithLabelValues(event).Inc()
		h.log.Log(context.Background(), level, "order announced again: no answer has come", "order_id", u.Order.ID,
			"status", u.Order.Status, "asked", u.Watched.Asked, "account_id", u.Order.AccountID, "tenant", u.Order.Tenant)
	}
	if len(done.asked) > 0 {
		h.wake()
	}
}
