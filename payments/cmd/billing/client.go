package main

import (
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

	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/kafka/inspect"
)

const (
	// maxBatch bounds how many commands are sent at once.
	maxBatch = 1000
	// Waits before what the broker did not acknowledge is sent again.
	minPause = 50 * time.Millisecond
	maxPause = time.Second
)

// unknownError says that the outcome of a command is not known.
type unknownError struct{ error }

func (e unknownError) Unwrap() error   { return e.error }
func (e unknownError) ExitStatus() int { return exitUnknown }

// reply is a reply as it came. Its Body is a *json.RawMessage.
type reply struct {
	contract.Reply
	raw []byte
}

func readReply(value []byte) (reply, error) {
	r := reply{Reply: contract.Reply{Body: new(json.RawMessage)}, raw: value}
	err := json.Unmarshal(value, &r.Reply)
	return r, err
}

// body reads the reply's body.
func (r reply) body(to any) error {
	raw, ok := r.Body.(*json.RawMessage)
	if !ok {
		return errors.New("the reply has no body")
	}
	return json.Unmarshal(*raw, to)
}

// client sends commands and finds their replies. It is safe for concurrent use: commands that wait at the same time
// are sent together.
type client struct {
	producer *kafka.Producer
	outgoing chan outgoing
	stop     func()
	done     sync.WaitGroup

	mu       sync.Mutex
	calls    map[uuid.UUID]*call
	trouble  error       // why the broker does not take commands at present
	repeated int         // replies that came again
	second   []uuid.UUID // commands that got another reply than their first; the first ones
}

// call is a command that was sent. It is remembered after its reply, so that a second one is noticed.
type call struct {
	result  chan<- result // has room for one; nil once it was used
	eventID string        // of the reply; empty until it came
}

type result struct {
	reply reply
	err   error
}

type outgoing struct {
	kafka.Message
	call *call
}

// newProducer makes a producer, after a warning of variables of the environment that are nearly one that is read.
func newProducer(cfg kafka.Config, warnings io.Writer) (*kafka.Producer, *slog.Logger, error) {
	config.PrintNearMisses(warnings, config.Variables[kafka.Config]())
	log := slog.New(slog.NewTextHandler(warnings, &slog.HandlerOptions{Level: slog.LevelWarn}))
	producer, err := kafka.NewProducer(cfg, log, prometheus.NewRegistry())
	return producer, log, err
}

// dial connects to the broker; replies that come after it has returned are seen. ctx bounds the attempt, not the
// client, which lives until close.
func dial(ctx context.Context, cfg kafka.Config, warnings io.Writer) (*client, error) {
	producer, log, err := newProducer(cfg, warnings)
	if err != nil {
		return nil, err
	}
	tail, err := inspect.NewTail(ctx, cfg, contract.TopicReplies, log)
	if err != nil {
		producer.Close()
		return nil, unknownError{fmt.Errorf(
			"the broker at %s (KAFKA_BROKERS) cannot be used: %w; is the stack running (make start)?",
			strings.Join(cfg.Brokers, ","), err)}
	}
	running, stop := context.WithCancel(context.Background())
	c := &client{producer: producer, outgoing: make(chan outgoing, maxBatch), stop: stop, calls: make(map[uuid.UUID]*call)}
	c.done.Go(func() { tail.Run(running, c.receive) })
	c.done.Go(func() { c.send(running) })
	return c, nil
}

func (c *client) close() {
	c.stop()
	c.done.Wait()
	c.producer.Close()
}

// call sends a command, which must have an ID, and waits for its reply until ctx ends. An error means that its
// outcome is not known (unknownError), or that it cannot be sent.
func (c *client) call(ctx context.Context, command contract.Command) (reply, error) {
	payload, err := json.Marshal(command)
	if err != nil {
		return reply{}, err
	}
	answer := make(chan result, 1)
	message := kafka.Message{Topic: contract.TopicCommands, Key: []byte(key(command)), Value: payload}
	sent := outgoing{message, &call{result: answer}}
	c.mu.Lock()
	c.calls[*command.CommandID] = sent.call
	c.mu.Unlock()
	select {
	case c.outgoing <- sent:
	case <-ctx.Done():
		return reply{}, c.unknown(ctx, *command.CommandID)
	}
	select {
	case r := <-answer:
		return r.reply, r.err
	case <-ctx.Done():
		return reply{}, c.unknown(ctx, *command.CommandID)
	}
}

// unknown says that a command had no reply before its context ended.
func (c *client) unknown(ctx context.Context, id uuid.UUID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	why := context.Cause(ctx).Error()
	switch {
	case c.trouble != nil:
		why += "; " + c.trouble.Error()
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		why += "; is payments running?"
	}
	return unknownError{fmt.Errorf(
		"no reply to command %s (%s); it may still be done: the same command with --command-id %s tells", id, why, id)}
}

// send passes commands on to the broker, whatever has gathered at once, until each is acknowledged.
func (c *client) send(ctx context.Context) {
	for {
		var batch []outgoing
		select {
		case m := <-c.outgoing:
			batch = append(batch, m)
		case <-ctx.Done():
			return
		}
		for more := true; more && len(batch) < maxBatch; {
			select {
			case m := <-c.outgoing:
				batch = append(batch, m)
			default:
				more = false
			}
		}
		for pause := minPause; len(batch) > 0; pause = min(2*pause, maxPause) {
			if batch = c.produce(ctx, batch); len(batch) == 0 {
				break
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return
			}
		}
	}
}

// produce sends a batch and returns, in their order, those commands that were not acknowledged. They may have been
// stored all the same; to send a command twice does no harm.
func (c *client) produce(ctx context.Context, batch []outgoing) (again []outgoing) {
	messages := make([]kafka.Message, len(batch))
	for i, o := range batch {
		messages[i] = o.Message
	}
	results := c.producer.Produce(ctx, messages)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trouble = nil
	for i, err := range results {
		switch call := batch[i].call; {
		case err == nil:
		case kafka.Permanent(err):
			call.end(result{err: err})
		default:
			if again = append(again, batch[i]); !errors.Is(err, kafka.ErrSkipped) {
				c.trouble = err
			}
		}
	}
	return again
}

// end hands a call its result, the first one.
func (c *call) end(r result) {
	if c.result != nil {
		c.result <- r
		c.result = nil
	}
}

// receive finds the calls of replies; those of other clients have none.
func (c *client) receive(messages []kafka.Message) {
	for _, m := range messages {
		r, err := readReply(m.Value)
		if err != nil || r.CommandID == nil {
			continue // not for us, who send UUIDs
		}
		c.reply(r, kafka.EventOf(m).ID)
	}
}

func (c *client) reply(r reply, eventID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	call, ours := c.calls[*r.CommandID]
	switch {
	case !ours:
	case call.result != nil:
		call.end(result{reply: r})
		call.eventID = eventID
	case call.eventID == eventID, r.Operation == "balance":
		c.repeated++ // a question has no record: it is answered anew each time it is delivered
	case len(c.second) < maxFaults:
		c.second = append(c.second, *r.CommandID)
	}
}
