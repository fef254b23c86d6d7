package stage

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const ms = time.Millisecond

// run runs a loop for a time, and returns when its batches began, and the log. once gets the number of the batch, from
// 0 on.
func run(t *testing.T, l Loop, within time.Duration, once func(n int, wake Signal) (int, error)) (
	at []time.Duration, log string) {
	t.Helper()
	var out bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		l.Name, l.Log, l.Wake = "stage", slog.New(slog.NewTextHandler(&out, nil)), NewSignal()
		l.Once = func(context.Context) (int, error) {
			at = append(at, time.Since(begin))
			return once(len(at)-1, l.Wake)
		}
		ctx, end := context.WithTimeout(t.Context(), within)
		defer end()
		if err := l.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	return at, out.String()
}

func returns(results ...int) func(int, Signal) (int, error) {
	return func(n int, _ Signal) (int, error) {
		if n < len(results) {
			return results[n], nil
		}
		return 0, nil
	}
}

func TestWhenALoopBegins(t *testing.T) {
	for name, test := range map[string]struct {
		loop   Loop
		once   func(int, Signal) (int, error)
		within time.Duration
		at     []time.Duration
	}{
		"idle": {Loop{}, returns(), 90 * ms, []time.Duration{0, 25 * ms, 50 * ms, 75 * ms}},
		"found what nobody has told it of": {Loop{}, returns(0, 1, 0), 38 * ms,
			[]time.Duration{0, 25 * ms, 30 * ms, 35 * ms}},
		"every so often": {Loop{Every: 40 * ms}, returns(3, 3), 90 * ms, []time.Duration{0, 40 * ms, 80 * ms}},
		"a full batch": {Loop{Every: 40 * ms, Full: 3}, returns(3, 4, 2), 50 * ms,
			[]time.Duration{0, 0, 0, 40 * ms}},
		"there is no work": {Loop{Every: 40 * ms, Look: func(context.Context) (bool, error) { return false, nil }},
			returns(), 90 * ms, []time.Duration{0}},
		"there is work, says a look": {Loop{Every: 40 * ms, Look: func(context.Context) (bool, error) { return true, nil }},
			returns(), 50 * ms, []time.Duration{0, 40 * ms}},
	} {
		t.Run(name, func(t *testing.T) {
			if at, _ := run(t, test.loop, test.within, test.once); !slices.Equal(at, test.at) {
				t.Errorf("batches began at %v, want %v", at, test.at)
			}
		})
	}
}

// A loop that is woken has no look before its batch, and lets the next items gather for as long as the batch took.
func TestALoopIsWoken(t *testing.T) {
	loop := Loop{Every: time.Hour, Gather: true, Look: func(context.Context) (bool, error) {
		t.Error("it looked")
		return false, nil
	}}
	at, _ := run(t, loop, 20*ms, func(n int, wake Signal) (int, error) {
		if n < 3 {
			wake.Send()
		}
		<-time.After(2 * ms)
		return 10, nil
	})
	if want := []time.Duration{0, 4 * ms, 8 * ms, 12 * ms}; !slices.Equal(at, want) {
		t.Errorf("batches began at %v, want %v", at, want)
	}
}

// Being woken does not shorten the pause after a failure. The log tells of the first failure of a row and of its end.
func TestALoopBacksOff(t *testing.T) {
	at, log := run(t, Loop{Every: time.Hour}, time.Second, func(n int, wake Signal) (int, error) {
		if n < 3 {
			wake.Send()
			return 0, errors.New("away")
		}
		return 1, nil
	})
	// The last one is because it was woken meanwhile.
	if want := []time.Duration{0, 50 * ms, 150 * ms, 350 * ms, 350 * ms}; !slices.Equal(at, want) {
		t.Errorf("batches began at %v, want %v", at, want)
	}
	if strings.Count(log, "away") != 1 || strings.Count(log, "stage works again") != 1 ||
		!strings.Contains(log, "failures=3") {
		t.Errorf("the log:\n%s", log)
	}
}

// What has worked for long and fails then has failed for the first time.
func TestAFailureAfterALongTimeIsTheFirst(t *testing.T) {
	at, log := run(t, Loop{}, time.Minute, func(int, Signal) (int, error) {
		<-time.After(25 * time.Second)
		return 0, errors.New("lost")
	})
	if want := []time.Duration{0, 25*time.Second + 50*ms, 50*time.Second + 100*ms}; !slices.Equal(at, want) {
		t.Errorf("batches began at %v, want %v", at, want)
	}
	if strings.Count(log, "lost") != 2 { // the third one ends with the loop
		t.Errorf("the log:\n%s", log)
	}
}

// The batch in flight is finished.
func TestALoopDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, end := context.WithCancel(t.Context())
		finished := false
		loop := Loop{Name: "stage", Log: slog.New(slog.DiscardHandler), Once: func(ctx context.Context) (int, error) {
			end()
			<-time.After(time.Second)
			finished = ctx.Err() == nil
			return 1, nil
		}}
		if err := loop.Run(ctx); err != nil || !finished {
			t.Errorf("%v, finished: %t", err, finished)
		}
	})
}
