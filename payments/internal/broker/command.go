package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/billing"
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/idempotency"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/strictjson"
)

// received is a command as it came.
type received struct {
	who         identity.Identity
	command     contract.Command
	reply       billing.ReplyTo
	request     ledger.Request // where there is no problem
	problem     error          // why it cannot be done, though its JSON can be read
	place       string         // where it was: what has no other identity is recognised by it
	traceparent string
	publishedAt time.Time
}

// maxOperation bounds what a reply repeats of a command's operation, in bytes: a command may be as large as a message
// can be, and its reply must fit into one.
const maxOperation = 64

// receive reads a command. An error means that it is not a JSON object, and so cannot even be answered.
func receive(record Record) (*received, error) {
	event := kafka.EventOf(record.Message)
	c := &received{who: record.Who, place: record.Place(), traceparent: event.Traceparent,
		publishedAt: record.Time}
	c.reply.Topic = replies(record.Header(contract.ReplyToHeader), record.Who)
	c.problem = strictjson.Unmarshal(record.Value, &c.command)
	id := c.command.CommandID
	if c.reply.Operation = c.command.Operation; c.problem != nil {
		// What says whose answer it is and to what is read by itself, so that a command which is wrong elsewhere is
		// answered too.
		var head map[string]json.RawMessage
		if err := json.Unmarshal(record.Value, &head); err != nil {
			return nil, fmt.Errorf("not a JSON object: %w", err)
		}
		if head == nil {
			return nil, errors.New("not a JSON object: null")
		}
		c.reply.Operation = ""
		_ = json.Unmarshal(head["operation"], &c.reply.Operation)
		id = commandID(head["command_id"], c.problem)
		if p := billing.Problem(c.problem); p != nil {
			c.problem = p // the reply says that JSON is not valid in the words of an answer over HTTP
		}
	}
	c.reply.Operation = c.reply.Operation[:min(len(c.reply.Operation), maxOperation)]
	if id != nil {
		c.reply.CommandID = *id
	} else if id, err := contract.ParseID(event.ID); err == nil {
		c.reply.CommandID = id
	}
	if c.reply.CommandID == uuid.Nil {
		c.problem = contract.Invalid("command_id", "%v", contract.ErrID)
	}
	if record.Refused != nil {
		c.problem = record.Refused
	}
	return c, nil
}

// commandID reads a command's ID by itself; uuid.Nil stands for one that cannot be read, or came twice.
func commandID(value json.RawMessage, problem error) *uuid.UUID {
	var fields contract.FieldErrors
	wrong := func(e contract.FieldError) bool { return e.Field == "command_id" }
	if errors.As(problem, &fields) && slices.ContainsFunc(fields, wrong) {
		return new(uuid.UUID)
	}
	var text *string
	if err := json.Unmarshal(value, &text); value != nil && err != nil {
		return new(uuid.UUID)
	}
	if text == nil {
		return nil
	}
	id, _ := contract.ParseID(*text)
	return &id
}

// request makes the request of a command.
func (d *Decoder) request(c *received, named postgres.Named) {
	if c.problem != nil {
		return
	}
	r := &c.request
	if *r, c.problem = billing.Read(c.command, c.who, named, d.currencies); c.problem != nil {
		return
	}
	r.CommandID = c.reply.CommandID
	if r.Kind() == ledger.KindBalanceQuery {
		// It leaves no record that a repeated one could meet, so each is a message of its own.
		r.ID = contract.DerivedID(c.place, r.AccountID, c.reply.CommandID.String())
		return
	}
	c.problem = billing.Identify(r, contract.TopicCommands, c.reply.CommandID.String())
}

// message makes the inbox message of a command. A command that cannot be done becomes a refusal in the queue of its
// account, if it names one.
func (c *received) message() postgres.Message {
	r, err := c.request, c.problem
	if err == nil {
		r.Reply, r.PublishedAt = c.reply.Encode(), c.publishedAt
		return billing.Message(r, c.traceparent)
	}
	c.reply.Refuse(err)
	account := r.AccountID
	if account == uuid.Nil {
		account = c.reply.CommandID
	}
	return billing.Message(ledger.Request{
		By: identity.Reach{Tenant: c.who.Tenant}, ID: contract.DerivedID(c.place, account, ""), AccountID: account,
		CommandID: c.reply.CommandID,
		Reply:     c.reply.Encode(), Command: ledger.Refusal{},
	}, c.traceparent)
}

// claim has commands that open accounts claim their IDs, in their order: a client may choose the account's ID, so the
// command's ID alone does not stand for one account.
func (d *Decoder) claim(ctx context.Context, commands map[int]*received, records int) error {
	var creations []*received
	var claims []idempotency.Claim
	for i := range records {
		if c, ok := commands[i]; ok && c.problem == nil && c.request.Kind() == ledger.KindCreateAccount {
			creations = append(creations, c)
			claims = append(claims, billing.Claim(c.request, contract.TopicCommands, c.reply.CommandID.String()))
		}
	}
	if len(claims) == 0 {
		return nil
	}
	outcomes, err := d.store.Claim(ctx, claims...)
	if err != nil {
		return err
	}
	for i, o := range outcomes {
		if o.Err != nil {
			creations[i].problem = o.Err
		}
	}
	return nil
}
