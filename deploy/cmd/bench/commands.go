package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/kafka/inspect"
)

const (
	commandClients = 20
	commandsAtOnce = 500 // of each client
	replyTimeout   = time.Minute
)

// runCommands sends deposits as commands over the broker: each client many at once, and the next when all of them have
// a reply.
func runCommands(ctx context.Context, s *site, duration time.Duration) (outcome, error) {
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
	c := conversation{awaited: map[string]*sync.WaitGroup{}}
	go tail.Run(ctx, func(replies []kafka.Message) {
		if err := c.hear(replies); err != nil {
			cancel(err)
		}
	})
	var headers []kafka.Header
	if s.token != "" {
		headers = []kafka.Header{{Key: contract.AuthorizationHeader, Value: []byte("Bearer " + s.token)}}
	}
	begin := time.Now()
	n, err := closedLoop(ctx, commandClients, duration, func(i int) (int, error) {
		messages := make([]kafka.Message, commandsAtOnce)
		ids := make([]string, len(messages))
		for j := range messages {
			ids[j] = uuid.NewString()
			account := s.account(i*len(messages) + j).String()
			messages[j] = kafka.Message{Topic: contract.TopicCommands, Key: []byte(account), Headers: headers,
				Value: fmt.Appendf(nil, `{"command_id":"%s","operation":"deposit","account_id":"%s",%s}`, ids[j], account, amount)}
		}
		answered := c.await(ids)
		for _, err := range producer.Produce(ctx, messages) {
			if err != nil {
				return 0, err
			}
		}
		select {
		case <-answered:
			return len(messages), nil
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-time.After(replyTimeout):
			return 0, fmt.Errorf("there are not all replies after %s", replyTimeout)
		}
	})
	return outcome{operations: n, took: time.Since(begin)}, err
}

// conversation matches replies to commands. A reply that comes more than once counts once.
type conversation struct {
	mu      sync.Mutex
	awaited map[string]*sync.WaitGroup // by the command's ID: those that were sent with it
}

// await returns a channel that is closed when each of these commands has a reply.
func (c *conversation) await(ids []string) <-chan struct{} {
	var left sync.WaitGroup
	left.Add(len(ids))
	c.mu.Lock()
	for _, id := range ids {
		c.awaited[id] = &left
	}
	c.mu.Unlock()
	answered := make(chan struct{})
	go func() {
		left.Wait()
		close(answered)
	}()
	return answered
}

// hear takes replies. One that tells of no success is an error.
func (c *conversation) hear(replies []kafka.Message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, reply := range replies {
		id := commandID(reply.Value)
		left, ok := c.awaited[id]
		if !ok {
			continue
		}
		if err := succeeded(reply.Value, 1); err != nil {
			return err
		}
		delete(c.awaited, id)
		left.Done()
	}
	return nil
}

// commandID finds the command's ID in a reply without decoding it.
func commandID(reply []byte) string {
	_, after, _ := bytes.Cut(reply, []byte(`"command_id":"`))
	id, _, _ := bytes.Cut(after, []byte(`"`))
	return string(id)
}
