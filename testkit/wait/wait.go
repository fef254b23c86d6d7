// Package wait polls for what no signal tells a test.
package wait

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

const (
	patience = 2 * time.Minute
	interval = 5 * time.Millisecond
)

// Until waits until condition holds, and fails the test when it does not within two minutes.
func Until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	NoError(t, func() error {
		if condition() {
			return nil
		}
		return errors.New(what)
	})
}

// NoError is Until for a condition that says with an error what is missing.
func NoError(t testing.TB, condition func() error) {
	t.Helper()
	if err := Within(patience, interval, condition); err != nil {
		t.Fatal(err)
	}
}

// Within asks condition at an interval. It returns nil once condition does, or its last error after so much time.
func Within(patience, interval time.Duration, condition func() error) error {
	timeout, poll := time.After(patience), time.NewTicker(interval)
	defer poll.Stop()
	for {
		err := condition()
		if err == nil {
			return nil
		}
		select {
		case <-poll.C:
		case <-timeout:
			return fmt.Errorf("not within %s: %w", patience, err)
		}
	}
}
