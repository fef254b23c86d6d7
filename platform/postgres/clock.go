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

// sight is the server's time, when that was here, and by how much it may be wrong.
type sight struct {
	server, here time.Time
	doubt        time.Duration
}

// drift is how fast two clocks may run apart: 100 millionths, more than those of servers do.
const drift = 10_000

// at is the server's time at a later moment here.
func (s sight) at(here time.Time) (server time.Time, doubt time.Duration) {
	passed := here.Sub(s.here)
	return s.server.Add(passed), s.doubt + passed/drift
}

// tells reports whether a sight tells more than an earlier one: it is nearer to the truth, or both cannot be true,
// since the server's clock was set, or it is another server.
func (s sight) tells(earlier sight) bool {
	server, doubt := earlier.at(s.here)
	return s.doubt <= doubt || s.server.Sub(server).Abs() > s.doubt+doubt
}

// NewClock makes a clock. Until its first look it tells this machine's time.
func NewClock(db *sqlx.DB, log *slog.Logger) *Clock { return &Clock{db: db, log: log} }

// Now is the server's time, in UTC.
func (c *Clock) Now() time.Time {
	s := c.seen.Load()
	if s == nil {
		return time.Now().UTC()
	}
	server, _ := s.at(time.Now())
	return server
}

// looks is how often a Clock looks at a time. The quickest look counts: a busy machine makes some slow.
const looks = 5

// Look looks at the server's clock, which was read at some time between question and answer.
func (c *Clock) Look(ctx context.Context) error {
	for range looks {
		var server time.Time
		begin := time.Now()
		if err := c.db.GetContext(ctx, &server, `SELECT clock_timestamp()`); err != nil {
			return fmt.Errorf("look at the database's clock: %w", err)
		}
		half := time.Since(begin) / 2
		s := sight{server.UTC(), begin.Add(half), half}
		if seen := c.seen.Load(); seen == nil || s.tells(*seen) {
			c.seen.Store(&s)
		}
	}
	return nil
}

// Run looks now and then until ctx ends, then returns nil.
func (c *Clock) Run(ctx context.Context) error {
	return stage.Loop{Name: "look at the database's clock", Log: c.log, Every: lookInterval,
		Once: func(ctx context.Context) (int, error) { return 0, c.Look(ctx) }}.Run(ctx)
}
