package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/groupcommit"
	"github.com/altyn-pay/altyn/platform/identity/bearer"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/kafka/inspect"
)

const (
	// maxBatch bounds how many messages are sent at once, maxWaiting how many wait for it.
	maxBatch   = 1000
	maxWaiting = 100_000
	// Waits before what the broker did not acknowledge is sent again.
	minPause = 50 * time.Millisecond
	maxPause = time.Second
)

// unknownError says that the outcome of a command is not known.
type unknownError struct{ error }

func (e unknownError) Unwrap() error   { return e.error }
func (e unknownError) ExitStatus() int { return exitUnknown }

// connection is the settings of what speaks to the broker.
type connection struct {
	Token   bearer.Credential
	Replies string `env:"BILLING_REPLIES" flag:"replies" value:"TOPIC" default:"billing.replies" help:"topic on which the replies come, with AUTH=jwt billing.replies. and the token's tenant"`
	Kafka   kafka.Config
}

// sender publishes messages. It is safe for concurrent use: those that meet are sent together.
type sender struct {
	*kafka.Producer
	brokers string
	log     *slog.Logger
	headers []kafka.Header // of what it sends: its token, where there is one
	group   *groupcommit.Group[kafka.Message, error]
}

func newSender(cfg connection, warnings io.Writer) (*sender, error) {
	token, err := cfg.Token.Read()
	if err != nil {
		return nil, err
	}
	var headers []kafka.Header
	if token != "" {
		headers = []kafka.Header{{Key: contract.AuthorizationHeader, Value: []byte("Bearer " + token)}}
	}
	log := slog.New(slog.NewTextHandler(warnings, &slog.HandlerOptions{Level: slog.LevelWarn}))
	producer, err := kafka.NewProducer(cfg.Kafka, log, prometheus.NewRegistry())
	if err != nil {
		return nil, err
	}
	never := func(error) bool { return false }
	produce := func(ctx context.Context, messages []kafka.Message) ([]error, error) {
		return producer.Produce(ctx, messages), nil
	}
	group := groupcommit.New(maxBatch, maxWaiting, never, produce)
	return &sender{producer, strings.Join(cfg.Kafka.Brokers, ","), log, headers, group}, nil
}

// deliver publishes a message, until the broker has it or ctx ends: what is delivered twice does no harm.
func (s *sender) deliver(ctx context.Context, m kafka.Message) error {
	m.Headers = s.headers
	var trouble error
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		refused, err := s.group.Do(ctx, m)
		if err = cmp.Or(err, refused); err == nil || kafka.Permanent(err) {
			return err
		}
		if ctx.Err() == nil {
			trouble = err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return s.unreachable(errors.Join(context.Cause(ctx), trouble))
		}
	}
}

func (s *sender) unreachable(err error) error {
	return unknownError{fmt.Errorf(
		"the broker at %s (KAFKA_BROKERS) cannot be used: %w; is the stack running (make start)?", s.brokers, err)}
}

// reply is a reply as it came. Its Body is a *json.RawMessage.
type reply struct {
	contract.Reply
	raw []byte
}

// body reads the reply's body.
func (r reply) body(to any) error {
	raw, ok := r.Body.(*json.RawMessage)
	if !ok {
		return errors.New("the reply has no body")
	}
	return json.Unmarshal(*raw, to)
}

// client sends commands and finds their replies. It is safe for concurrent use.
type client struct {
	*sender
	close func()

	mu       sync.Mutex
	calls    map[uuid.UUID]*call
	repeated int         // replies that came again
	second   []uuid.UUID // commands that got another reply than their first
}

// call is a command that was sent. It is remembered after its reply, so that a second one is noticed.
type call struct {
	answer  chan reply // has room for one
	eventID string     // of the reply; empty until it came
}

// dial connects to the broker; replies that come after it has returned are seen. ctx bounds the attempt, not the
// client, which lives until close.
func dial(ctx context.Context, cfg connection, warnings io.Writer) (*client, error) {
	s, err := newSender(cfg, warnings)
	if err != nil {
		return nil, err
	}
	if cfg.Replies != contract.TopicReplies {
		s.headers = append(s.headers, kafka.Header{Key: contract.ReplyToHeader, Value: []byte(cfg.Replies)})
	}
	tail, err := inspect.NewTail(ctx, cfg.Kafka, cfg.Replies, s.log)
	if err != nil {
		s.Close()
		return nil, s.unreachable(err)
	}
	c := &client{sender: s, calls: make(map[uuid.UUID]*call)}
	running, stop := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { tail.Run(running, c.receive) })
	c.close = func() {
		stop()
		done.Wait()
		s.Close()
	}
	return c, nil
}

// call sends a command, which must have an ID, and waits for its reply until ctx ends. An error means that its
// outcome is not known (unknownError), or that it cannot be sent.
func (c *client) call(ctx context.Context, command contract.Command) (reply, error) {
	payload, err := json.Marshal(command)
	if err != nil {
		return reply{}, err
	}
	id, sent := *command.CommandID, &call{answer: make(chan reply, 1)}
	c.mu.Lock()
	c.calls[id] = sent
	c.mu.Unlock()
	// What keeps commands in order: the account that is charged, or what is known in its place.
	key := cmp.Or(command.AccountID, command.FromAccountID, command.ID, command.HoldID, command.OperationID, &id)
	err = c.deliver(ctx, kafka.Message{Topic: contract.TopicCommands, Key: []byte(key.String()), Value: payload})
	if err == nil {
		select {
		case r := <-sent.answer:
			return r, nil
		case <-ctx.Done():
			err = unknownError{fmt.Errorf("%w; is payments running?", context.Cause(ctx))}
		}
	}
	if errors.As(err, new(unknownError)) {
		err = unknownError{fmt.Errorf(
			"no reply to command %s (%w); it may still be done: the same command with --command-id %s tells", id, err, id)}
	}
	return reply{}, err
}

// must sends a command under a fresh ID; an error reply is an error.
func (c *client) must(ctx context.Context, timeout timeout, command contract.Command) (reply, error) {
	id := newCommandID()
	command.CommandID = &id
	ctx, cancel := timeout.begin(ctx)
	defer cancel()
	r, err := c.call(ctx, command)
	if err == nil && r.Status == statusError {
		err = fmt.Errorf("%s was refused: %d %s %s", command.Operation, r.Code, r.Reason, r.Detail)
	}
	return r, err
}

// receive finds the calls of replies; those of other clients have none.
func (c *client) receive(messages []kafka.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range messages {
		r := reply{Reply: contract.Reply{Body: new(json.RawMessage)}, raw: m.Value}
		if err := json.Unmarshal(m.Value, &r.Reply); err != nil || r.CommandID == nil {
			continue // not for us, who send UUIDs
		}
		eventID := kafka.EventOf(m).ID
		switch call := c.calls[*r.CommandID]; {
		case call == nil:
		case call.eventID == "":
			call.answer <- r
			call.eventID = cmp.Or(eventID, "none")
		case call.eventID == eventID, r.Operation == "balance":
			c.repeated++ // a question has no record: it is answered anew each time it is delivered
		default:
			c.second = append(c.second, *r.CommandID)
		}
	}
}
