package kafka

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestOutlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, end := context.WithCancel(t.Context())
		ctx, done := outlive(parent, handleGrace)
		defer done()
		<-time.After(time.Hour) // of the bubble's clock
		end()
		<-time.After(handleGrace - 1)
		synctest.Wait()
		if ctx.Err() != nil {
			t.Error("ended before the grace was over")
		}
		<-time.After(time.Nanosecond)
		synctest.Wait()
		if ctx.Err() == nil {
			t.Error("outlived the grace")
		}
	})
}

func TestOutliveEndsEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, end := context.WithCancel(t.Context())
		ctx, done := outlive(parent, handleGrace)
		end()
		synctest.Wait()
		done()
		synctest.Wait() // a goroutine that stays would be a deadlock of the bubble
		if ctx.Err() == nil {
			t.Error("not ended")
		}
	})
}
