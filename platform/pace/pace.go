// Package pace lets the stages of a pipeline work in larger batches the more there is to do. Each batch costs the database,
// the broker and the system some work however few messages it has: a message alone ten times what it costs among a hundred.
package pace

import (
	"context"
	"time"
)

const (
	perMessage = 200 * time.Microsecond
	longest    = 20 * time.Millisecond
	// large is a batch in which a message costs as little as it can; whatever follows it need not gather.
	large = 500
)

// Rest is how long a stage that has handled so many messages lets the next ones gather. It is next to nothing where hardly
// anything comes, so that nothing is delayed, and grows to 20 ms under load, where it makes batches of hundreds.
func Rest(messages int) time.Duration {
	if messages >= large {
		return 0
	}
	return min(longest, time.Duration(messages)*perMessage)
}

// Wait rests for so long, or until ctx ends.
func Wait(ctx context.Context, rest time.Duration) {
	if rest <= 0 {
		return
	}
	timer := time.NewTimer(rest)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
