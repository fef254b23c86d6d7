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

// Each client of batches has 100 operations under way.
const operationBatchClients = 16

const amount = `"amount":"1.00","currency":"RUB"`

// deposit makes one deposit per request, over so many accounts.
func deposit(accounts int) runner {
	return func(ctx context.Context, s *site, duration time.Duration) (outcome, error) {
		return s.operate(ctx, clients, duration, func(i int) (string, []byte, int) {
			return "/api/v1/accounts/" + s.account(i%accounts).String() + "/deposits", []byte(`{` + amount + `}`), 1
		})
	}
}

// runOperationBatches makes 100 deposits per request.
func runOperationBatches(ctx context.Context, s *site, duration time.Duration) (outcome, error) {
	return s.operate(ctx, operationBatchClients, duration, func(i int) (string, []byte, int) {
		return "/api/v1/operations/batch", batch("operations", batchOf, func(n int) string {
			return fmt.Sprintf(`{"operation":"deposit","account_id":"%s",%s}`, s.account(i*batchOf+n), amount)
		}), batchOf
	})
}

// operate makes requests in a closed loop. Each is answered when all its operations are settled.
func (s *site) operate(ctx context.Context, clients int, duration time.Duration,
	request func(i int) (path string, body []byte, n int)) (outcome, error) {
	begin := time.Now()
	operations, err := closedLoop(ctx, clients, duration, func(i int) (int, error) {
		path, body, n := request(i)
		var answer []byte
		if err := s.payments.Call("POST", path+"?wait=30s", "", body, &answer); err != nil {
			return 0, err
		}
		return n, succeeded(answer, n)
	})
	return outcome{operations: operations, took: time.Since(begin)}, err
}

// succeeded checks that an answer or a reply tells of n successful operations. It only counts, because decoding every
// answer would cost as much as making it.
func succeeded(answer []byte, n int) error {
	if bytes.Count(answer, []byte(`"status":"success"`)) < n {
		return fmt.Errorf("not %d operations succeeded: %.300s", n, answer)
	}
	return nil
}
