package stage

import (
	"context"
	"log/slog"
	"time"
)

// steady is how long a call of Once lasts after which its failure is the first one of a row.
const steady = 10 * longestBackoff

// Loop is the loop of a stage. It begins with a batch, and then waits for the next one: until it is woken, or until it
// is time to look whether there is work that nobody has told it of. After a failure it backs off, however often it is
// woken.
type Loop struct {
	Name string // what the log calls it
	Log  *slog.Logger

	// Once does one batch, and returns how many items it had. What was begun is finished: ctx does not end with that of
	// Run.
	Once func(ctx context.Context) (n int, err error)
	// Look, if not nil, tells whether there is work when nobody has woken the loop: it should cost less than an Once that
	// finds none.
	Look func(ctx context.Context) (bool, error)

	Wake  Signal        // says that there is work; nil if nothing does
	Every time.Duration // looks for work this often
	Poll  *Poll         // or as often as this says; without both the loop has a Poll of its own

	Full   int  // after a batch of this many items, if it is not 0, there is more work
	Gather bool // items gather after each batch, see Rest
}

// Run works until ctx ends, then returns nil. The log tells of the first failure of a row, and of its end.
func (l Loop) Run(ctx context.Context) error {
	poll := l.Poll
	switch {
	case l.Every > 0:
		poll = newPoll(l.Every, l.Every)
	case poll == nil:
		poll = NewPoll()
	}
	working := context.WithoutCancel(ctx)
	failures := 0
	for woken := true; ctx.Err() == nil; {
		begin := time.Now()
		n, err := l.step(working, woken)
		if err != nil {
			if time.Since(begin) >= steady {
				failures = 0
			}
			if failures++; failures == 1 && ctx.Err() == nil {
				l.Log.Warn(l.Name+" failed; trying again", "error", err)
			}
			Wait(ctx, Backoff(failures))
			woken = true
			continue
		}
		if failures > 0 {
			l.Log.Info(l.Name+" works again", "failures", failures)
			failures = 0
		}
		if !woken && n > 0 {
			poll.found()
		}
		if woken = l.Full > 0 && n >= l.Full; woken {
			continue
		}
		if l.Gather {
			Gather(ctx, n, begin)
		}
		woken = poll.wait(ctx, l.Wake)
	}
	return nil
}

func (l Loop) step(ctx context.Context, woken bool) (n int, err error) {
	if !woken && l.Look != nil {
		if ready, err := l.Look(ctx); err != nil || !ready {
			return 0, err
		}
	}
	return l.Once(ctx)
}
