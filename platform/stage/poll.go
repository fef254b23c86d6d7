package stage

import (
	"context"
	"sync"
	"time"
)

const (
	// A stage looks at the short interval while it finds what nobody has told it of, so that what other processes commit
	// does not wait, and at the long one otherwise.
	busyInterval = 5 * time.Millisecond
	idleInterval = 25 * time.Millisecond
	busyFor      = time.Second
)

// Poll says when loops look for what other processes have committed: each look is a question to the database. Where
// there are no others it never finds anything, and so looks rarely, however much there is to do. Loops that share a
// Poll take turns: one of them waits for the time to look, the others wait to be woken, or for the first one to be at
// work.
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
