package stage

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
)

func TestIsolate(t *testing.T) {
	bad, away := errors.New("bad"), errors.New("away")
	for _, test := range []struct {
		items, bad []int
		away       int // the call of settle that fails for another reason; 0: none
		settled    []int
		failed     []int
		err        error
	}{
		{items: []int{1}, bad: []int{1}, failed: []int{1}},
		{items: []int{1, 2, 3, 4, 5}, bad: []int{4}, settled: []int{1, 2, 3, 5}, failed: []int{4}},
		{items: []int{1, 2, 3, 4, 5, 6, 7}, bad: []int{1, 7}, settled: []int{2, 3, 4, 5, 6}, failed: []int{1, 7}},
		{items: []int{1, 2, 3}, bad: []int{1, 2, 3}, failed: []int{1, 2, 3}},
		{items: []int{1, 2, 3, 4}, bad: []int{1}, away: 3, failed: []int{1}, err: away},
		{items: []int{1, 2}, settled: []int{1, 2}}, // what has failed together does not fail alone
	} {
		t.Run(fmt.Sprint(test.items, test.bad), func(t *testing.T) {
			var settled, failed []int
			calls := 0
			err := Isolate(test.items, bad,
				func(part []int) error {
					if calls++; calls == test.away {
						return away
					}
					if slices.ContainsFunc(part, func(i int) bool { return slices.Contains(test.bad, i) }) {
						return bad
					}
					settled = append(settled, part...)
					return nil
				},
				func(err error) bool { return errors.Is(err, bad) },
				func(i int, err error) error {
					if !errors.Is(err, bad) {
						t.Errorf("%d failed with %v", i, err)
					}
					failed = append(failed, i)
					return nil
				})
			if !errors.Is(err, test.err) || !slices.Equal(settled, test.settled) || !slices.Equal(failed, test.failed) {
				t.Errorf("settled %v, failed %v, %v; want %v, %v, %v", settled, failed, err, test.settled, test.failed, test.err)
			}
		})
	}
}

func TestAPanicIsAnError(t *testing.T) {
	var text strings.Builder
	log := slog.New(slog.NewTextHandler(&text, nil))
	if err := Guard(log, func() error { panic("oh") }); err == nil || !strings.Contains(err.Error(), "oh") {
		t.Errorf("it failed with %v", err)
	}
	if !strings.Contains(text.String(), "TestAPanicIsAnError") {
		t.Errorf("no stack is in %q", text.String())
	}
	text.Reset()
	want := errors.New("no")
	if err := Guard(log, func() error { return want }); !errors.Is(err, want) || text.Len() > 0 {
		t.Errorf("it failed with %v: %s", err, text.String())
	}
}
