package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
)

// Billing is the workload of payments alone: operations per second, each settled and answered.
type Billing struct {
	// Single is one deposit per request, over all accounts; Hot the same on one account.
	Single Rate `json:"single"`
	Hot    Rate `json:"hot"`
	// Batch is 100 operations per request, Commands are commands over the broker with a reply for each.
	Batch    Rate `json:"batch_of_100"`
	Commands Rate `json:"commands"`
}

// Rate is a figure beside the yardstick.
type Rate struct {
	PerSecond float64 `json:"per_second"`
	Ratio     float64 `json:"ratio_to_pgbench"`
}

const (
	batchOf      = 100
	batchClients = 16
	inFlight     = 4000 // commands without a reply
)

func billing(ctx context.Context, running *stack.Stack, s settings, yardstick float64) (Billing, error) {
	var result Billing
	client := load.New(running.URL("payments"))
	defer client.Close()
	accounts, err := client.Accounts(ctx, s.accounts, s.clients, "", "")
	if err != nil {
		return result, err
	}
	deposit := []byte(`{"amount":"1.00","currency":"RUB"}`)
	single := func(accounts []uuid.UUID) func(int) (int, error) {
		return func(i int) (int, error) {
			return 1, client.Call("POST", "/api/v1/accounts/"+accounts[i%len(accounts)].String()+"/deposits?wait=30s", "", deposit, nil)
		}
	}
	batch := func(i int) (int, error) {
		body := []byte(`{"operations":[`)
		for n := range batchOf {
			if n > 0 {
				body = append(body, ',')
			}
			body = fmt.Appendf(body, `{"operation":"deposit","account_id":"%s","amount":"1.00","currency":"RUB"}`, accounts[(i*batchOf+n)%len(accounts)])
		}
		return batchOf, client.Call("POST", "/api/v1/operations/batch?wait=30s", "", append(body, `]}`...), nil)
	}
	for _, w := range []struct {
		what    string
		clients int
		do      func(i int) (int, error)
		rate    *Rate
	}{
		{"one per request", s.clients, single(accounts), &result.Single},
		{"one hot account", s.clients, single(accounts[:1]), &result.Hot},
		{"batches of 100", batchClients, batch, &result.Batch},
	} {
		// A quarter of the time to warm up.
		if _, err := closedLoop(ctx, "warming up", w.clients, s.duration/4, w.do); err != nil {
			return result, err
		}
		if w.rate.PerSecond, err = closedLoop(ctx, w.what, w.clients, s.duration, w.do); err != nil {
			return result, fmt.Errorf("%s: %w", w.what, err)
		}
	}
	if result.Commands.PerSecond, err = commands(ctx, running, accounts, s.duration); err != nil {
		return result, fmt.Errorf("commands: %w", err)
	}
	for _, r := range []*Rate{&result.Single, &result.Hot, &result.Batch, &result.Commands} {
		r.Ratio = r.PerSecond / yardstick
	}
	return result, nil
}

// closedLoop runs do from all clients for a while, each its next when the last is answered; it returns operations per second.
func closedLoop(ctx context.Context, what string, clients int, duration time.Duration, do func(i int) (operations int, err error)) (float64, error) {
	progress := load.NewProgress(os.Stderr, what, 0)
	defer progress.Close()
	begin := time.Now()
	var total atomic.Int64
	err := load.Each(ctx, clients, clients, func(client int) error {
		for i := client; time.Since(begin) < duration && ctx.Err() == nil; i += clients {
			n, err := do(i)
			if err != nil {
				return err
			}
			total.Add(int64(n))
			progress.Add(n)
		}
		return ctx.Err()
	})
	return float64(total.Load()) / time.Since(begin).Seconds(), err
}

// commands sends deposits over the broker, at most inFlight without a reply, and returns replies per second.
func commands(ctx context.Context, running *stack.Stack, accounts []uuid.UUID, duration time.Duration) (float64, error) {
	cfg, err := running.KafkaConfig()
	if err != nil {
		return 0, err
	}
	log := slog.New(slog.DiscardHandler)
	producer, err := kafka.NewProducer(cfg, log, prometheus.NewRegistry())
	if err != nil {
		return 0, err
	}
	defer producer.Close()
	tail, err := kafka.NewTail(ctx, cfg, contract.TopicReplies, log)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	slots := make(chan struct{}, inFlight)
	for range inFlight {
		slots <- struct{}{}
	}
	progress := load.NewProgress(os.Stderr, "commands", 0)
	defer progress.Close()
	var replies atomic.Int64
	go tail.Run(ctx, func(messages []kafka.Message) {
		replies.Add(int64(len(messages)))
		progress.Add(len(messages))
		for range messages {
			slots <- struct{}{}
		}
	})

	begin := time.Now()
	for i := 0; time.Since(begin) < duration; {
		select {
		case <-slots:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		free := min(len(slots), 499)
		for range free {
			<-slots
		}
		messages := make([]kafka.Message, free+1)
		for n := range messages {
			account := accounts[i%len(accounts)].String()
			messages[n] = kafka.Message{Topic: contract.TopicCommands, Key: []byte(account), Value: fmt.Appendf(nil,
				`{"command_id":"%s","operation":"deposit","account_id":"%s","amount":"1.00","currency":"RUB"}`, uuid.New(), account)}
			i++
		}
		for _, err := range producer.Produce(ctx, messages) {
			if err != nil {
				return 0, err
			}
		}
	}
	return float64(replies.Load()) / time.Since(begin).Seconds(), nil
}
