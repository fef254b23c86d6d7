package groupcommit_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/altyn-pay/altyn/platform/groupcommit"
)

var errBad = errors.New("bad item")

func never(error) bool { return false }

func TestWhatArrivesWhileABatchIsInFlightFormsTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var batches [][]int
		hold := make(chan struct{})
		group := groupcommit.New(4, 100, never, func(_ context.Context, items []int) ([]int, error) {
			batches = append(batches, slices.Clone(items))
			<-hold
			return items, nil
		})
		var wait sync.WaitGroup
		for i := range 8 {
			wait.Go(func() {
				if got, err := group.Do(t.Context(), i); got != i || err != nil {
					t.Errorf("Do(%d) = %d, %v", i, got, err)
				}
			})
			synctest.Wait()
		}
		close(hold)
		wait.Wait()
		want := [][]int{{0}, {1, 2, 3, 4}, {5, 6, 7}}
		if !slices.EqualFunc(batches, want, slices.Equal) {
			t.Errorf("batches %v, want %v", batches, want)
		}
	})
}

// Where requests meet, more of them gather for as long as a batch took; those that come one at a time never wait.
func TestRequestsThatMeetGather(t *testing.T) {
	const took = 4 * time.Millisecond
	for _, test := range []struct {
		name  string
		at    []time.Duration // when the requests come
		begin []time.Duration // when the batches begin
	}{
		{"one after another", []time.Duration{0, took + 1, 2*took + 2, 9 * took},
			[]time.Duration{0, took + 1, 2*took + 2, 9 * took}},
		{"one meets another", []time.Duration{0, 1, took + 1, 2*took - 1}, []time.Duration{0, 2 * took}},
		{"the last of many", []time.Duration{0, 1, 2, 3*took + 1}, []time.Duration{0, 2 * took, 4 * took}},
		{"many at once", append(slices.Repeat([]time.Duration{1}, 15), 0, took+2), []time.Duration{0, took + 2}},
		{"more at once", slices.Repeat([]time.Duration{0, 1}, 20), []time.Duration{0, took}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				var begin []time.Duration
				group := groupcommit.New(100, 100, never, func(_ context.Context, items []int) ([]int, error) {
					begin = append(begin, time.Since(start))
					<-time.After(took)
					return items, nil
				})
				var wait sync.WaitGroup
				for i, at := range test.at {
					wait.Go(func() {
						<-time.After(at)
						if _, err := group.Do(t.Context(), i); err != nil {
							t.Error(err)
						}
					})
				}
				wait.Wait()
				<-time.After(took) // a last rest
				synctest.Wait()
				if !slices.Equal(begin, test.begin) {
					t.Errorf("batches begin at %v, want %v", begin, test.begin)
				}
			})
		})
	}
}

// A rest is for few: where more than a batch waits, the next one follows at once, and none follows one that was large.
func TestManyItemsDoNotRest(t *testing.T) {
	const took = 4 * time.Millisecond
	for _, test := range []struct {
		name     string
		maxBatch int
		calls    []int           // items of each, all after the first at the same moment
		begin    []time.Duration // when the batches begin
	}{
		{"more than a batch waits", 10, []int{1, 10, 10, 10}, []time.Duration{0, took, 2 * took, 4 * took}},
		{"the last batch was large", 500, []int{1, 250, 250, 10}, []time.Duration{0, took, 2 * took}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				var begin []time.Duration
				group := groupcommit.New(test.maxBatch, 1000, never, func(_ context.Context, items []int) ([]int, error) {
					begin = append(begin, time.Since(start))
					<-time.After(took)
					return items, nil
				})
				var wait sync.WaitGroup
				for _, items := range test.calls {
					wait.Go(func() {
						if _, err := group.DoAll(t.Context(), make([]int, items)); err != nil {
							t.Error(err)
						}
					})
					synctest.Wait()
				}
				wait.Wait()
				<-time.After(took) // a last rest
				synctest.Wait()
				if !slices.Equal(begin, test.begin) {
					t.Errorf("batches begin at %v, want %v", begin, test.begin)
				}
			})
		})
	}
}

func TestABadItemFailsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		first := true
		group := groupcommit.New(10, 100, func(err error) bool { return errors.Is(err, errBad) },
			func(_ context.Context, items []int) ([]int, error) {
				if first {
					first = false
					<-hold
				}
				if slices.Contains(items, 3) {
					return nil, errBad
				}
				return items, nil
			})
		var wait sync.WaitGroup
		for i := range 6 {
			wait.Go(func() {
				if _, err := group.Do(t.Context(), i); errors.Is(err, errBad) != (i == 3) {
					t.Errorf("Do(%d): %v", i, err)
				}
			})
			synctest.Wait()
		}
		close(hold)
		wait.Wait()
	})
}

func TestTheQueueIsBoundedAndACallerMayLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		var ran []int
		group := groupcommit.New(10, 2, never, func(_ context.Context, items []int) ([]int, error) {
			ran = append(ran, items...)
			<-hold
			return items, nil
		})
		ctx, leave := context.WithCancel(t.Context())
		var wait sync.WaitGroup
		for i := range 3 { // one in flight, two waiting
			wait.Go(func() {
				if _, err := group.Do(ctx, i); !errors.Is(err, context.Canceled) {
					t.Errorf("Do(%d): %v", i, err)
				}
			})
			synctest.Wait()
		}
		if _, err := group.Do(t.Context(), 3); !errors.Is(err, groupcommit.ErrBusy) {
			t.Errorf("a full queue: %v", err)
		}
		leave()
		wait.Wait()
		close(hold)
		synctest.Wait()
		if !slices.Equal(ran, []int{0, 1, 2}) {
			t.Errorf("ran %v: what was accepted takes effect though its caller left", ran)
		}
	})
}

func TestTooFewResultsAreAnError(t *testing.T) {
	group := groupcommit.New(10, 10, never, func(context.Context, []int) ([]int, error) { return nil, nil })
	if _, err := group.Do(t.Context(), 1); err == nil {
		t.Error("no error")
	}
}
