package telemetry

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

const (
	// maxGarbage is how much garbage there may be before it is collected, whatever lives: requests leave much garbage and
	// little that lives, and a collection costs by what lives. But it is no less than minPercent of what lives, such as
	// thousands of open streams, or a process that is full would do nothing but collect.
	maxGarbage = 24 << 20
	minPercent = 25
	// The collector's percentage where next to nothing lives: it counts from 4 MB on.
	maxPercent = maxGarbage * 100 / (4 << 20)
)

// TuneGC says how much garbage may be in memory. GOGC and GOMEMLIMIT, where one of them is set, are what counts
// instead.
func TuneGC() {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	debug.SetGCPercent(maxPercent)
	afterNextGC(maxPercent)
}

// afterNextGC sets the percentage anew once garbage was collected, and so on.
func afterNextGC(percent int) {
	witness := new(*byte) // a pointer, so that it is not allocated together with others
	runtime.AddCleanup(witness, func(before int) {
		now := gcPercent()
		if max(now, before) > min(now, before)*11/10 { // each time costs a moment in which the world stands still
			debug.SetGCPercent(now)
		} else {
			now = before
		}
		afterNextGC(now)
	}, percent)
}

// gcPercent is what keeps garbage within its bounds: a percentage of what the collector has found alive, stacks
// included.
func gcPercent() int {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(samples)
	var alive uint64
	for _, sample := range samples {
		if sample.Value.Kind() == metrics.KindUint64 {
			alive += sample.Value.Uint64()
		}
	}
	return max(minPercent, min(maxPercent, int(maxGarbage*100/max(alive, 1))))
}
