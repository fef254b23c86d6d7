package pace

import (
	"context"
	"time"
)

const (
	// A stage looks at the short interval while it finds what nobody has told it of, so that what other processes commit does
	// not wait, and at the long one otherwise.
	busyInterval = 5 * time.Millisecond
	idleInterval = 25 * time.Millisecond
	busyFor      = time.Second
)

// Poll is how a stage of the pipeline waits for work. It is woken for what its own process has committed, and looks now and
// then for what other processes have. Where there are none it never finds anything by itself, and so looks rarely, however
// much there is to do: each look is a question to the database. The zero value is ready to be used.
type Poll struct {
	timer     *time.Timer
	looked    bool // the last wait has ended because it was time to look
	busyUntil time.Time
}

// Wait returns when wake says that there is work, when it is time to look for some, or when ctx ends. found tells whether there
// was any after the last wait.
func (p *Poll) Wait(ctx context.Context, wake <-chan struct{}, found bool) (woken bool) {
	now := time.Now()
	if p.looked && found {
		p.busyUntil = now.Add(busyFor)
	}
	switch busy := now.Before(p.busyUntil); {
	case p.timer == nil:
		p.timer = time.NewTimer(idleInterval)
	case busy: // whoever was woken has looked as well
		p.timer.Reset(busyInterval)
	case p.looked: // being woken does not put the look off: others' work would wait for as long as there is our own
		p.timer.Reset(idleInterval)
	}
	select {
	case <-ctx.Done():
		p.looked = false
	case <-wake:
		p.looked = false
		return true
	case <-p.timer.C:
		p.looked = true
	}
	return false
}

// Stop ends the timer of a Poll that is not used any more.
func (p *Poll) Stop() {
	if p.timer != nil {
		p.timer.Stop()
	}
}
