// Package stage is what the stages of a pipeline have in common: the Loop in which a stage works, batch by batch;
// Guard, which keeps a panic from ending the process; and Isolate, which finds the bad item in a batch that fails.
//
// A batch is the unit of work everywhere. Each one costs the database, the broker and the system some work however few
// items it has: an item alone costs ten times what it costs among a hundred. So a stage takes whatever has arrived
// while the last batch was in flight, and rests as long as that took (Rest): the busier the machine, the larger the
// batches.
package stage

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"
)

const (
	longestRest = 20 * time.Millisecond
	// large is a batch in which an item costs as little as it can; whatever follows it need not gather.
	large = 500

	shortestBackoff = 50 * time.Millisecond
	longestBackoff  = 2 * time.Second
)

// Rest is how long a stage that has handled n items in that time lets the next ones gather: as long again. So a stage
// works at most half of the time. Where it is fast, that is hardly a delay; on a slow or busy machine, batches become
// larger instead of more numerous.
func Rest(n int, took time.Duration) time.Duration {
	if n == 0 || n >= large {
		return 0
	}
	return min(longestRest, took)
}

// Gather rests after a batch of n items that was begun at that time, or until ctx ends.
func Gather(ctx context.Context, n int, begin time.Time) { Wait(ctx, Rest(n, time.Since(begin))) }

// Wait waits for so long, or until ctx ends, and reports whether ctx goes on.
func Wait(ctx context.Context, pause time.Duration) bool {
	if pause > 0 {
		timer := time.NewTimer(pause)
		defer timer.Stop()
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
	}
	return ctx.Err() == nil
}

// Backoff is the pause after so many failures in a row: from 50 ms on, twice as long each time, up to 2 s.
func Backoff(failures int) time.Duration {
	return min(longestBackoff, shortestBackoff<<min(failures-1, 10))
}

// Signal wakes whoever receives from it, now or later. Signals that nobody has received yet are one.
type Signal chan struct{}

// NewSignal makes a signal.
func NewSignal() Signal { return make(Signal, 1) }

// Send never blocks.
func (s Signal) Send() {
	select {
	case s <- struct{}{}:
	default:
	}
}

// steady is how long a call of Once must last for its failure to count as the first of a new row.
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
	// Look, if not nil, reports whether there is work. It is called when nobody has woken the loop, and should cost less
	// than a call of Once that finds none.
	Look func(ctx context.Context) (bool, error)

	Wake  Signal        // says that there is work; nil if nothing does
	Every time.Duration // looks for work this often
	Poll  *Poll         // or as often as this says; without both the loop has a Poll of its own

	Full   int  // after a batch of this many items, if it is not 0, there is more work
	Gather bool // items gather after each batch, see Rest
}

// Run works until ctx ends, then returns nil. It logs the first of several failures in a row, and their end.
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

const (
	// A stage looks at the short interval while it finds work that nobody has woken it for, so that what other processes
	// commit does not wait. Otherwise it looks at the long one.
	busyInterval = 5 * time.Millisecond
	idleInterval = 25 * time.Millisecond
	busyFor      = time.Second
)

// Poll says when loops look for what other processes have committed. Each look is a query. Where there are no other
// processes a look never finds anything, so it is rare, however much there is to do. Loops that share a Poll take
// turns: one of them waits until it is time to look; the others wait to be woken, or until the first one is at work.
type Poll struct {
	busy, idle time.Duration
	turn       chan struct{} // has an element while nobody waits for the time

	// Of whoever has the turn.
	timer  *time.Timer
	looked bool // the last wait has ended because it was time to look

	mu        sync.Mutex
	busyUntil time.Time
}

// NewPoll looks every 25 ms, and for a second after it has found something every 5 ms.
func NewPoll() *Poll { return newPoll(busyInterval, idleInterval) }

func newPoll(busy, idle time.Duration) *Poll {
	p := &Poll{busy: busy, idle: idle, turn: make(chan struct{}, 1)}
	p.turn <- struct{}{}
	return p
}

// found says that a look has found something.
func (p *Poll) found() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busyUntil = time.Now().Add(busyFor)
}

func (p *Poll) isBusy() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Before(p.busyUntil)
}

// wait returns when wake says that there is work, when it is time to look for some, or when ctx ends.
func (p *Poll) wait(ctx context.Context, wake Signal) (woken bool) {
	select {
	case <-ctx.Done():
		return false
	case <-wake:
		return true
	case <-p.turn:
	}
	defer func() { p.turn <- struct{}{} }()
	switch {
	case p.timer == nil:
		p.timer = time.NewTimer(p.idle)
	case p.isBusy(): // whoever was woken has looked as well
		p.timer.Reset(p.busy)
	case p.looked: // being woken does not put the look off: others' work would wait for as long as there is our own
		p.timer.Reset(p.idle)
	}
	p.looked = false
	select {
	case <-ctx.Done():
	case <-wake:
		return true
	case <-p.timer.C:
		p.looked = true
	}
	return false
}

// Guard calls handle, which gives a batch its effect. A panic becomes its error and is logged with its stack, so that
// it fails the item at fault and does not end the process.
func Guard(log *slog.Logger, handle func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
			log.Error("a handler panicked", "panic", p, "stack", string(debug.Stack()))
		}
	}()
	return handle()
}

// Isolate finds the items at fault in a batch that failed with cause, so that the others take effect. It settles each
// half of the batch by itself and halves again what fails, until an item fails alone; failed gets that item and its
// error. The halves are settled in order. settle must be all or nothing.
//
// Isolate returns the first error that no item is to blame for, such as a lost database, or that failed returns. What
// comes after it is not settled.
func Isolate[T any](batch []T, cause error, settle func([]T) error, blames func(error) bool,
	failed func(T, error) error) error {
	if len(batch) == 1 {
		return failed(batch[0], cause)
	}
	for _, half := range [][]T{batch[:len(batch)/2], batch[len(batch)/2:]} {
		err := settle(half)
		if err != nil && blames(err) {
			err = Isolate(half, err, settle, blames, failed)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
