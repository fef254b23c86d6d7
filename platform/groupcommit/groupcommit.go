// Package groupcommit lets requests that arrive together share one transaction. A request that arrives while nothing
// is in flight is run at once; those that arrive while a batch is in flight form the next one. So nothing is delayed
// when the system is idle, and under load a transaction carries hundreds of rows.
package groupcommit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrBusy is returned when too many requests are waiting already.
var ErrBusy = errors.New("too many requests are waiting")

// runTimeout bounds one batch.
const runTimeout = 10 * time.Second

// Group collects items and runs them in batches, one batch at a time.
type Group[Item, Result any] struct {
	run      func(ctx context.Context, items []Item) ([]Result, error)
	alone    func(error) bool
	maxBatch int
	maxQueue int

	mu      sync.Mutex
	queue   []*call[Item, Result]
	running bool
}

type call[Item, Result any] struct {
	item   Item
	result Result
	err    error
	done   chan struct{}
}

// New makes a group. run gets up to maxBatch items, in the order of their arrival, and returns one result for each; it
// must be all or nothing. When it fails with an error of which alone says that one of the items may be to blame, the
// items are run again one by one, so that one bad item does not fail the others. At most maxQueue items wait.
func New[Item, Result any](maxBatch, maxQueue int, alone func(error) bool,
	run func(ctx context.Context, items []Item) ([]Result, error)) *Group[Item, Result] {
	return &Group[Item, Result]{run: run, alone: alone, maxBatch: maxBatch, maxQueue: maxQueue}
}

// Do runs the item in a batch and returns its result. When ctx ends first, Do returns its error, and the item may still
// take effect.
func (g *Group[Item, Result]) Do(ctx context.Context, item Item) (Result, error) {
	c := &call[Item, Result]{item: item, done: make(chan struct{})}
	g.mu.Lock()
	if len(g.queue) >= g.maxQueue {
		g.mu.Unlock()
		return c.result, ErrBusy
	}
	g.queue = append(g.queue, c)
	if !g.running {
		g.running = true
		go g.drain()
	}
	g.mu.Unlock()
	select {
	case <-c.done:
		return c.result, c.err
	case <-ctx.Done():
		var none Result
		return none, ctx.Err()
	}
}

// drain runs batches until none is waiting. It lives as long as there are requests, not longer.
func (g *Group[Item, Result]) drain() {
	for {
		g.mu.Lock()
		batch := g.queue
		if len(batch) > g.maxBatch {
			batch, g.queue = batch[:g.maxBatch:g.maxBatch], batch[g.maxBatch:]
		} else {
			g.queue = nil
		}
		if len(batch) == 0 {
			g.running = false
			g.mu.Unlock()
			return
		}
		g.mu.Unlock()
		g.runBatch(batch)
	}
}

func (g *Group[Item, Result]) runBatch(batch []*call[Item, Result]) {
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	items := make([]Item, len(batch))
	for i, c := range batch {
		items[i] = c.item
	}
	results, err := g.run(ctx, items)
	if err == nil && len(results) != len(items) {
		err = fmt.Errorf("groupcommit: %d results for %d items", len(results), len(items))
	}
	for i, c := range batch {
		switch {
		case err == nil:
			c.result = results[i]
		case len(batch) > 1 && g.alone(err):
			g.runBatch(batch[i : i+1]) // closes done
			continue
		default:
			c.err = err
		}
		close(c.done)
	}
}
