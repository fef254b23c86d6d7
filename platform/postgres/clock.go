package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/platform/stage"
)

// lookInterval is how often a Clock looks at its server's.
const lookInterval = 10 * time.Second

// Clock tells the time of a database's server. All processes of a service share it, so what they decide by the time,
// such as deadlines, does not depend on whose machine has a wrong one. Between two looks it counts on by what has
// passed here, so that it does not follow when this machine's clock is set.
type Clock struct {
	db   *sqlx.DB
	log  *slog.Logger
	seen atomic.Pointer[sight]
}

// sight is the server's time, and when that was here.
type sight struct{ server, here time.Time }

// NewClock makes a clock. Until its first look it tells this machine's time.
func NewClock(db *sqlx.DB, log *slog.Logger) *Clock { return &Clock{db: db, log: log} }

// Now is the server's time, in UTC.
func (c *Clock) Now() time.Time {
	s := c.seen.Load()
	if s == nil {
		return time.Now().UTC()
	}
	return s.server.Add(time.Since(s.here))
}

// longLook is a look that says less than an earlier one: something stood still meanwhile.
const longLook = time.Second

// Look looks at the server's clock, which was read in the middle of the time that this took.
func (c *Clock) Look(ctx context.Context) error {
	var s sight
	begin := time.Now()
	if err := c.db.GetContext(ctx, &s.server, `SELECT clock_timestamp()`); err != nil {
		return fmt.Errorf("look at the database's clock: %w", err)
	}
	took := time.Since(begin)
	if took > longLook && c.seen.Load() != nil {
		return nil
	}
	s.server, s.here = s.server.UTC(), begin.Add(took/2)
	c.seen.Store(&s)
	return nil
}

// Run looks now and then until ctx ends, then returns nil.
func (c *Clock) Run(ctx context.Context) error {
	return stage.Loop{Name: "look at the database's clock", Log: c.log, Every: lookInterval,
		Once: func(ctx context.Context) (int, error) { return 0, c.Look(ctx) }}.Run(ctx)
}
