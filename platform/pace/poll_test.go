package pace

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// looks returns how often a poll looks by itself within a time in which it is woken at an interval, 0 for never. finds tells
// whether a look finds something.
func looks(t *testing.T, within, wakes time.Duration, finds func(woken bool) bool) (n int) {
	synctest.Test(t, func(t *testing.T) {
		var p Poll
		defer p.Stop()
		wake := make(chan struct{}, 1)
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
						select { // a wake that is not taken yet is as good as two
						case wake <- struct{}{}:
						default:
						}
					}
				}
			})
			defer waker.Wait()
			defer close(ended)
			defer ticker.Stop()
		}
		found := false
		for end := time.Now().Add(within); time.Now().Before(end); {
			woken := p.Wait(t.Context(), wake, found)
			if !woken {
				n++
			}
			found = finds(woken)
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
