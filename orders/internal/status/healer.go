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
	// A round looks at so many watched orders, and announces so many again.
	maxLooks     = 5000
	maxQuestions = 1000

	// There are this many rounds in the time that an order is given, but none more often than minRound.
	rounds   = 30
	minRound = 50 * time.Millisecond
	maxRound = 2 * time.Second
)

// Healer announces orders again that have been pending or cancelling for too long without a reason to wait, since either their
// event or its answer may have been lost after a broker had acknowledged it. payments answers with the payment's present
// state. Orders that wait for something are asked about too, far more rarely: their last event may be lost as well.
//
// Any number of processes may run one: the rounds follow one another, whoever does them, so the rate is bounded for all.
type Healer struct {
	store      *postgres.Store
	currencies *money.Currencies
	patience   time.Duration
	wake       func()
	log        *slog.Logger

	announced *prometheus.CounterVec
	healed    prometheus.Counter
}

// NewHealer makes a healer. patience is how long an order may take without a reason; wake is called after events were
// stored.
func NewHealer(store *postgres.Store, currencies *money.Currencies, patience time.Duration, wake func(), log *slog.Logger,
	metrics prometheus.Registerer) *Healer {
	h := &Healer{
		store: store, currencies: currencies, patience: patience, wake: wake, log: log,
		announced: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "altyn_orders_announced_again_total", Help: "Events of orders published again because no answer had come."}, []string{"event"}),
		healed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "altyn_orders_healed_total", Help: "Orders that went on after they had been announced again."}),
	}
	metrics.MustRegister(h.announced, h.healed)
	return h
}

// Run works until ctx ends, then returns nil. It survives the loss of the database.
func (h *Healer) Run(ctx context.Context) error {
	every := min(max(h.patience/rounds, minRound), maxRound)
	return stage.Loop{
		Name: "healer", Log: h.log, Every: every,
		Once: func(ctx context.Context) (int, error) { return h.runOnce(ctx, every) },
	}.Run(ctx)
}

// round is what one has done.
type round struct {
	asked  []postgres.Unsettled
	healed []order.Order
}

// runOnce does a round where it is time for one and no other process does it. It returns how many orders it has asked about.
func (h *Healer) runOnce(ctx context.Context, every time.Duration) (int, error) {
	var done round
	if err := h.store.InTx(ctx, func(tx *sqlx.Tx) error {
		done = round{}
		now, ok, err := h.store.TakeTurn(ctx, tx, every*3/4) // the rounds of a loop are not exact
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

// look asks about those of the watched orders for which it is time.
func (h *Healer) look(ctx context.Context, tx *sqlx.Tx, now time.Time) (done round, err error) {
	due, err := h.store.Due(ctx, tx, maxLooks)
	if err != nil || len(due) == 0 {
		return done, err
	}
	var (
		changed   []postgres.Unsettled
		questions []postgres.Unsettled
		orders    []order.Order
		settled   []uuid.UUID
	)
	for _, u := range due {
		next, ask, watch := u.Watched.Look(&u.Order, now, h.patience)
		if ask && len(questions) == maxQuestions {
			continue // it stays due
		}
		if u.Watched.Healed(&u.Order, h.patience) {
			done.healed = append(done.healed, u.Order)
		}
		switch u.Watched = next; {
		case !watch:
			settled = append(settled, u.Order.ID)
		case ask:
			questions, orders = append(questions, u), append(orders, u.Order)
		default:
			changed = append(changed, u)
		}
	}
	held, err := h.store.Held(ctx, tx, orders, h.patience)
	if err != nil {
		return done, err
	}
	var events []order.Event
	for _, u := range questions {
		if held[u.Order.ID] { // it was not asked in this round
			u.Watched.Asked, u.Watched.AskedAt, u.Watched.DueAt = u.Watched.Asked-1, time.Time{}, now.Add(h.patience)
		} else {
			event, err := h.announcement(u)
			if err != nil {
				return done, err
			}
			events, done.asked = append(events, event), append(done.asked, u)
		}
		changed = append(changed, u)
	}
	if err := h.store.Announce(ctx, tx, events...); err != nil {
		return done, err
	}
	return done, h.store.SaveUnsettled(ctx, tx, changed, settled)
}

// announcement is the last event of an order once more, marked as repeated.
func (h *Healer) announcement(u postgres.Unsettled) (order.Event, error) {
	if u.Order.Status == order.Cancelling {
		return u.Order.CancelledEvent(h.currencies, u.Cancellation.Reason, u.Cancellation.At, true)
	}
	return u.Order.PlacedEvent(h.currencies, true)
}

// report tells of what was committed.
func (h *Healer) report(done round) {
	for _, o := range done.healed {
		h.log.Info("order healed: it went on after it was announced again", "order_id", o.ID, "status", o.Status)
	}
	h.healed.Add(float64(len(done.healed)))
	for _, u := range done.asked {
		level, event := slog.LevelInfo, contract.OrderPlacedType
		if u.Order.Waits() { // nothing is wrong, as far as is known
			level = slog.LevelDebug
		} else if u.Order.Status == order.Cancelling {
			event = contract.OrderCancelledType
		}
		h.announced.WithLabelValues(event).Inc()
		h.log.Log(context.Background(), level, "order announced again: no answer has come", "order_id", u.Order.ID,
			"status", u.Order.Status, "asked", u.Watched.Asked)
	}
	if len(done.asked) > 0 {
		h.wake()
	}
}
