package stage

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// looks returns how often a poll looks by itself within a time in which it is woken at an interval, 0 for never. finds
// tells whether a look finds something.
func looks(t *testing.T, within, wakes time.Duration, finds func(woken bool) bool) (n int) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPoll()
		wake := NewSignal()
		if wakes > 0 {
			ticker := time.NewTicker(wakes)
			var waker sync.WaitGroup
			ended := make(chan struct{})
			waker.Go(func() {
				for {
					select {
					case <-ended:
						return
					case <-ticker.C:
						wake.Send()
					}
				}
			})
			defer waker.Wait()
			defer close(ended)
			defer ticker.Stop()
		}
		for end := time.Now().Add(within); time.Now().Before(end); {
			woken := p.wait(t.Context(), wake)
			if !woken {
				n++
			}
			if finds(woken) && !woken {
				p.found()
			}
		}
	})
	return n
}

func TestAPollLooksRarelyWhereAllIsTold(t *testing.T) {
	const second = time.Second
	never, always := func(bool) bool { return false }, func(bool) bool { return true }
	told := func(woken bool) bool { return woken }
	for name, test := range map[string]struct {
		wakes    time.Duration
		finds    func(woken bool) bool
		from, to int // looks within a second
	}{
		"nothing happens":                             {0, never, 40, 41},
		"this process's own work":                     {2 * time.Millisecond, told, 35, 41},
		"this process's own work, now and then":       {20 * time.Millisecond, told, 35, 41},
		"other processes' work":                       {0, always, 190, 201},
		"both":                                        {20 * time.Millisecond, always, 150, 201},
		"both, more often than there is need to look": {2 * time.Millisecond, always, 0, 5},
	} {
		if n := looks(t, second, test.wakes, test.finds); n < test.from || n > test.to {
			t.Errorf("%s: %d looks in a second, want %d to %d", name, n, test.from, test.to)
		}
	}
}

// Of the loops that share a Poll one waits for the time to look; the next one does once that one is at work.
func TestLoopsThatShareAPollTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPoll()
		wake := NewSignal()
		looks := make(chan time.Duration, 100)
		begin := time.Now()
		for range 3 {
			go func() {
				p.wait(t.Context(), wake)
				looks <- time.Since(begin)
			}()
		}
		for n := 1; n <= 3; n++ {
			if at, want := <-looks, time.Duration(n)*idleInterval; at != want {
				t.Errorf("look %d came after %s, want %s", n, at, want)
			}
		}
	})
}
