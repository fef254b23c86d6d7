package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/altyn-pay/altyn/platform/kafka"
)

func reply(id, status string) kafka.Message {
	return kafka.Message{Value: fmt.Appendf(nil,
		`{"operation":"deposit","command_id":"%s","status":"%s","body":{"command_id":"%[1]s"}}`, id, status)}
}

func TestConversation(t *testing.T) {
	c := newConversation(3)
	if n, err := c.slots(t.Context(), 2); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	a, b := c.say(), c.say()
	if n, err := c.slots(t.Context(), 2); n != 1 || err != nil { // what is left
		t.Fatal(n, err)
	}
	last := c.say()
	// A reply that comes twice, and one to another client's command, count once and not at all.
	if n, err := c.hear([]kafka.Message{reply(a, "success"), reply(a, "success"), reply("another", "success")}); n != 1 ||
		err != nil {
		t.Fatal(n, err)
	}
	if n, err := c.slots(t.Context(), 2); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if _, err := c.hear([]kafka.Message{reply(b, "error")}); err == nil || !strings.Contains(err.Error(), "error") {
		t.Error(err)
	}
	c.free <- struct{}{}
	if n, err := c.hear([]kafka.Message{reply(b, "success"), reply(last, "success")}); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	if at, err := c.end(t.Context()); err != nil || at.IsZero() {
		t.Error(at, err)
	}
}

func TestConversationWithoutReplies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newConversation(1)
		if _, err := c.slots(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if _, err := c.end(t.Context()); err == nil || time.Since(begin) != replyTimeout {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		wrong := errors.New("a reply was wrong")
		cancel(wrong)
		if _, err := c.slots(ctx, 1); !errors.Is(err, wrong) {
			t.Error(err)
		}
	})
}
