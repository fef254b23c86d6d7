package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/stage"
)

// ErrFull is the error of a request for which the outbox has no room. Nothing was done.
var ErrFull = errors.New("the outbox has no room")

// Limits bounds what waits to be published, so that the disk does not fill up while the broker is unavailable.
type Limits struct {
	Messages int           `env:"OUTBOX_MAX_MESSAGES" default:"1000000" help:"how many messages may wait for the broker; beyond, new orders are refused as overloaded"`
	Age      time.Duration `env:"OUTBOX_MAX_AGE" default:"1h" help:"how long a message may wait for the broker; beyond, new orders of its lane are refused as overloaded"`
}

// Validate tells what is wrong with the limits.
func (l Limits) Validate() error {
	var errs []error
	if l.Messages < contract.Lanes {
		errs = append(errs, config.Invalid("OUTBOX_MAX_MESSAGES", "must be at least %d", contract.Lanes))
	}
	if l.Age < time.Second {
		errs = append(errs, config.Invalid("OUTBOX_MAX_AGE", "must be a duration of at least 1s, such as 1h"))
	}
	return errors.Join(errs...)
}

const (
	lookEvery = time.Second
	// lookShare bounds the time spent on looking: at most one part in lookShare.
	lookShare = 20
)

// Backlog knows the lanes for which the outbox has no room. It decides per lane, so that lanes whose partition is
// unavailable do not stop the others.
type Backlog struct {
	db     *sqlx.DB
	limits Limits
	log    *slog.Logger
	full   atomic.Uint64 // a bit for each lane
}

// NewBacklog makes a backlog; Run keeps it up to date.
func NewBacklog(db *sqlx.DB, limits Limits, log *slog.Logger, metrics prometheus.Registerer) *Backlog {
	b := &Backlog{db: db, limits: limits, log: log}
	metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "altyn_outbox_full_lanes",
		Help: "Lanes, of 64, whose new requests are refused because the outbox has no room."},
		func() float64 { return float64(bits.OnesCount64(b.full.Load())) }))
	return b
}

// Full reports whether there is no room for messages of a lane. It costs nothing; its answer is at most a few seconds
// old.
func (b *Backlog) Full(lane int16) bool { return b.full.Load()&(1<<lane) != 0 }

// Run looks at the outbox every second or less often until ctx ends, then returns nil. It survives the loss of the
// database.
func (b *Backlog) Run(ctx context.Context) error {
	var next time.Time
	once := func(ctx context.Context) (int, error) {
		begin := time.Now()
		if begin.Before(next) {
			return 0, nil
		}
		err := b.look(ctx)
		next = time.Now().Add((lookShare - 1) * time.Since(begin))
		return 0, err
	}
	return stage.Loop{Name: "looking for room in the outbox", Log: b.log, Every: lookEvery, Once: once}.Run(ctx)
}

// look counts what waits. Once the total is too much, the lanes that hold more than their share are full.
func (b *Backlog) look(ctx context.Context) error {
	var lanes []struct {
		Lane     int16 `db:"lane"`
		Messages int   `db:"messages"`
		Seconds  int64 `db:"seconds"`
	}
	if err := b.db.SelectContext(ctx, &lanes, `
		SELECT lane, sum(count) AS messages, extract(epoch FROM clock_timestamp() - min(created_at))::bigint AS seconds
		FROM (SELECT lane, count, created_at FROM outbox UNION ALL SELECT lane, count, created_at FROM outbox_waiting) o
		GROUP BY lane`); err != nil {
		return fmt.Errorf("outbox: count what waits: %w", err)
	}
	total, oldest := 0, int64(0)
	for _, l := range lanes {
		total += l.Messages
		oldest = max(oldest, l.Seconds)
	}
	share, age := b.limits.Messages/contract.Lanes, int64(b.limits.Age/time.Second)
	var full uint64
	for _, l := range lanes {
		if total >= b.limits.Messages && l.Messages >= share || l.Seconds >= age {
			full |= 1 << l.Lane
		}
	}
	switch was := b.full.Swap(full); {
	case full != 0 && was == 0:
		b.log.Warn("the outbox has no room: new requests of some lanes are refused", "lanes", bits.OnesCount64(full),
			"messages", total, "oldest_seconds", oldest)
	case full == 0 && was != 0:
		b.log.Info("the outbox has room again")
	}
	return nil
}
