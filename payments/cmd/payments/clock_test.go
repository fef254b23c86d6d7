package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/altyn-pay/altyn/testkit/wait"
)

// Operations are settled at the time of the database's clock, which all processes share.
func TestTheTimeIsTheDatabases(t *testing.T) {
	b := setup(t)
	b.SetClock(t, time.Hour)
	b.Start("all")
	deposits := "/api/v1/accounts/" + b.Account("").String() + "/deposits"
	soon := time.Now().Add(time.Hour / 2).UTC().Format(time.RFC3339)
	wait.NoError(t, func() error { // the clock is looked at once the service runs
		deposit := b.Post(deposits, map[string]any{"amount": "1.00", "currency": "RUB"})
		if at, _ := deposit.Body["settled_at"].(string); at < soon {
			return fmt.Errorf("a deposit is settled at %q", at)
		}
		return nil
	})
}
