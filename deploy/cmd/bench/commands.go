package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/kafka/inspect"
)

const (
	commandsInFlight = 10_000 // commands without a reply
	commandsAtOnce   = 500    // in one request to the broker
	replyTimeout     = time.Minute
)

// runCommands sends deposits as commands over the broker. It ends with the last reply.
func runCommands(ctx context.Context, s *site, what string, duration time.Duration) (outcome, error) {
	cfg, err := s.KafkaConfig()
	if err != nil {
		return outcome{}, err
	}
	log := slog.New(slog.DiscardHandler)
	producer, err := kafka.NewProducer(cfg, log, prometheus.NewRegistry())
	if err != nil {
		return outcome{}, err
	}
	defer producer.Close()
	tail, err := inspect.NewTail(ctx, cfg, contract.TopicReplies, log)
	if err != nil {
		return outcome{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c := newConversation(commandsInFlight)
	progress := load.NewProgress(os.Stderr, what, 0)
	defer progress.Close()
	go tail.Run(ctx, func(replies []kafka.Message) {
		n, err := c.hear(replies)
		progress.Add(n)
		if err != nil {
			cancel(err)
		}
	})

	begin := time.Now()
	sent := 0
	for time.Since(begin) < duration {
		n, err := c.slots(ctx, commandsAtOnce)
		if err != nil {
			return outcome{}, err
		}
		messages := make([]kafka.Message, n)
		for i := range messages {
			account := s.account(sent).String()
			messages[i] = kafka.Message{Topic: contract.TopicCommands, Key: []byte(account), Value: fmt.Appendf(nil,
				`{"command_id":"%s","operation":"deposit","account_id":"%s",%s}`, c.say(), account, amount)}
			sent++
		}
		for _, err := range producer.Produce(ctx, messages) {
			if err != nil {
				return outcome{}, err
			}
		}
	}
	last, err := c.end(ctx)
	return outcome{operations: sent, took: last.Sub(begin)}, err
}

// conversation matches replies to commands. A reply that comes more than once counts once.
type conversation struct {
	free chan struct{} // a slot for each command that may be sent

	mu   sync.Mutex
	open map[string]bool // the IDs of commands without a reply
	last time.Time       // when the last reply came
}

func newConversation(inFlight int) *conversation {
	c := &conversation{free: make(chan struct{}, inFlight), open: make(map[string]bool, inFlight)}
	for range inFlight {
		c.free <- struct{}{}
	}
	return c
}

// slot waits for a free slot and takes it.
func (c *conversation) slot(ctx context.Context) error {
	timer := time.NewTimer(replyTimeout)
	defer timer.Stop()
	select {
	case <-c.free:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return fmt.Errorf("no reply came for %s", replyTimeout)
	}
}

// slots waits for a free slot and takes up to most of those that are free.
func (c *conversation) slots(ctx context.Context, most int) (n int, err error) {
	if err := c.slot(ctx); err != nil {
		return 0, err
	}
	for n = 1; n < most && len(c.free) > 0; n++ { // nobody else takes slots
		<-c.free
	}
	return n, nil
}

// say returns the ID of the next command.
func (c *conversation) say() string {
	id := uuid.NewString()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[id] = true
	return id
}

// hear takes replies and returns how many of them were awaited.
func (c *conversation) hear(replies []kafka.Message) (n int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, reply := range replies {
		id := commandID(reply.Value)
		if !c.open[id] {
			continue
		}
		if err := succeeded(reply.Value, 1); err != nil {
			return n, err
		}
		delete(c.open, id)
		c.free <- struct{}{} // never blocks: the command has had it
		n++
	}
	if n > 0 {
		c.last = time.Now()
	}
	return n, nil
}

// commandID finds the command's ID in a reply without decoding it.
func commandID(reply []byte) string {
	_, after, _ := bytes.Cut(reply, []byte(`"command_id":"`))
	id, _, _ := bytes.Cut(after, []byte(`"`))
	return string(id)
}

// end waits for the missing replies and returns the time of the last one.
func (c *conversation) end(ctx context.Context) (time.Time, error) {
	for range cap(c.free) {
		if err := c.slot(ctx); err != nil {
			return time.Time{}, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last, nil
}
