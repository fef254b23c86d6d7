// Package pace lets the stages of a pipeline work in larger batches the busier the machine is. Each batch costs the database,
// the broker and the system some work however few messages it has: a message alone ten times what it costs among a hundred.
package pace

import (
	"context"
	"time"
)

const (
	longest = 20 * time.Millisecond
	// large is a batch in which a message costs as little as it can; whatever follows it need not gather.
	large = 500
)

// Rest is how long a stage that has handled so many messages, in that time, lets the next ones gather: as long again. So it
// works half of the time at most, which is hardly a delay where it is fast, and where the machine is slow, or busy with other
// stages, batches become larger instead of more.
func Rest(messages int, took time.Duration) time.Duration {
	if messages == 0 || messages >= large {
		return 0
	}
	return min(longest, took)
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
