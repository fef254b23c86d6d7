package stack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/altyn-pay/altyn/platform/stage"
)

const (
	// A part that ends by itself is started again after a pause, which doubles each time until the part stays up for a
	// while.
	firstPause = 100 * time.Millisecond
	lastPause  = 10 * time.Second
	steadyTime = 30 * time.Second

	readyTimeout = time.Minute
	readyPoll    = 10 * time.Millisecond
)

// running is one run of a part, from its start to its end.
type running interface {
	// String says what it is: "PostgreSQL 18.4 (embedded)".
	String() string
	PID() int
	// Done is closed when it has ended.
	Done() <-chan struct{}
	// Stop ends it, gracefully or (kill) at once, and returns when it is gone. Stopping what has ended is no error.
	Stop(kill bool) error
}

// part is a server or an instance of a service. It is kept running from up to down.
type part struct {
	name, url, log string
	admin          string // the URL of a service's operators' plane
	rank           int    // its place in the order of stopping
	start          func(ctx context.Context) (running, error)
	logger         *slog.Logger
	changed        func()
	keepers        *sync.WaitGroup

	turn sync.Mutex // held while it is being started or stopped

	mu       sync.Mutex
	run      running // nil while it is down
	wanted   bool
	since    time.Time // of the last start
	restarts int       // that nobody asked for
}

func stopInOrder(run running) error { return run.Stop(false) }
func kill(run running) error        { return run.Stop(true) }

// Part says how a part of the stack is doing.
type Part struct {
	Name     string
	About    string // what it is, such as "PostgreSQL 18.4 (embedded)"; empty while it is down
	URL      string // http://… or https://… for a service, whose /readyz tells whether it is ready; tcp://… for a server
	AdminURL string // of a service's operators' plane
	Log      string // its log file
	PID      int    // 0 while it is down
	Since    time.Time
	Restarts int // after crashes, since the stack was started
}

func (p *part) status() Part {
	p.mu.Lock()
	defer p.mu.Unlock()
	status := Part{Name: p.name, URL: p.url, AdminURL: p.admin, Log: p.log, Since: p.since, Restarts: p.restarts}
	if p.run != nil {
		status.PID, status.About = p.run.PID(), p.run.String()
	}
	return status
}

// Addr is host:port.
func (p Part) Addr() string {
	_, addr, _ := strings.Cut(p.URL, "://")
	return addr
}

// up starts the part unless it runs, and keeps it running until down or the end of ctx.
func (p *part) up(ctx context.Context) error {
	p.turn.Lock()
	defer p.turn.Unlock()
	if p.status().PID != 0 {
		return nil
	}
	return p.launch(ctx, 0)
}

// down ends the part with stop. It stays down until up.
func (p *part) down(stop func(running) error) error {
	p.mu.Lock()
	p.wanted = false // at once, so that a keeper that waits for its turn gives up
	p.mu.Unlock()
	p.turn.Lock()
	defer p.turn.Unlock()
	p.mu.Lock()
	run := p.run
	p.wanted, p.run = false, nil
	p.mu.Unlock()
	if run == nil {
		return nil
	}
	err := stop(run)
	p.changed()
	return err
}

// launch starts the part and its keeper. The caller holds turn.
func (p *part) launch(ctx context.Context, pause time.Duration) error {
	if err := ctx.Err(); err != nil { // the stack has been closed
		return err
	}
	run, err := p.start(ctx)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.run, p.since = run, time.Now()
	p.wanted = true
	p.mu.Unlock()
	p.changed()
	p.keepers.Go(func() { p.keep(ctx, run, pause) })
	return nil
}

// keep waits until a run ends, and starts the part again.
func (p *part) keep(ctx context.Context, run running, pause time.Duration) {
	<-run.Done()
	p.mu.Lock()
	if p.run != run { // somebody else has ended it
		p.mu.Unlock()
		return
	}
	p.run = nil
	lasted := time.Since(p.since)
	p.mu.Unlock()
	p.changed()
	if lasted > steadyTime {
		pause = 0
	}
	for ctx.Err() == nil {
		pause = min(max(firstPause, 2*pause), lastPause)
		p.logger.Warn("ended by itself", "part", p.name, "lasted_ms", lasted.Milliseconds(), "again_in_ms",
			pause.Milliseconds())
		if !stage.Wait(ctx, pause) {
			return
		}
		again, err := p.relaunch(ctx, pause)
		if !again {
			return
		}
		p.logger.Error("does not start", "part", p.name, "error", err)
	}
}

// relaunch reports whether to try once more.
func (p *part) relaunch(ctx context.Context, pause time.Duration) (again bool, err error) {
	p.turn.Lock()
	defer p.turn.Unlock()
	p.mu.Lock()
	wanted := p.wanted && p.run == nil
	p.mu.Unlock()
	if !wanted || ctx.Err() != nil {
		return false, nil
	}
	if err := p.launch(ctx, pause); err != nil {
		return true, err
	}
	p.mu.Lock()
	p.restarts++
	p.mu.Unlock()
	p.changed()
	return false, nil
}

// awaitReady returns when the part is ready. If it ends during its first start (firstTime), that is an error at once;
// later it may end and come back.
func (p *part) awaitReady(ctx context.Context, firstTime bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("it was not ready after %s", readyTimeout))
	defer cancel()
	for {
		if now := p.status(); firstTime && (now.PID == 0 || now.Restarts > 0) {
			return p.failure(errors.New("it ended before it was ready"))
		}
		err := Ready(ctx, p.status())
		if err == nil {
			return nil
		}
		if !stage.Wait(ctx, readyPoll) {
			return p.failure(fmt.Errorf("%w (%w)", context.Cause(ctx), err))
		}
	}
}

// failure returns an error with the end of the part's log.
func (p *part) failure(err error) error { return withTail(p.name, p.log, err) }
