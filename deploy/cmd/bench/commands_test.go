package main

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/altyn-pay/altyn/platform/kafka"
)

func reply(id, status string) kafka.Message {
	return kafka.Message{Value: fmt.Appendf(nil,
		`{"operation":"deposit","command_id":"%s","status":"%s","body":{"command_id":"%[1]s"}}`, id, status)}
}

func TestConversation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := conversation{awaited: map[string]*sync.WaitGroup{}}
		answered := c.await([]string{"a", "b"})
		expect := func(all bool, replies ...kafka.Message) {
			t.Helper()
			if err := c.hear(replies); err != nil {
				t.Error(err)
			}
			synctest.Wait()
			select {
			case <-answered:
				if !all {
					t.Error("it does not wait for all replies")
				}
			default:
				if all {
					t.Error("all replies have come")
				}
			}
		}
		// A reply that comes twice, and one to another client's command, count once and not at all.
		expect(false, reply("a", "success"), reply("a", "success"), reply("another", "success"))
		if err := c.hear([]kafka.Message{reply("b", "error")}); err == nil || !strings.Contains(err.Error(), "error") {
			t.Error(err)
		}
		expect(true, reply("b", "success"))
	})
}
