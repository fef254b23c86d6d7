package inbox

import (
	"context"
	"fmt"
)

// Receiver stores what a broker delivers. Record is the broker's form of a message.
type Receiver[Record any] struct {
	accept   func(ctx context.Context, messages []Message) ([]Arrival, error)
	decode   Decoder[Record]
	repeated func(Message) (Message, bool)
	dead     func(ctx context.Context, records []Record, reasons []error) error
}

// Decoder makes messages of a fetched batch. For each record it returns the message, or the reason why it cannot be read.
// An error of its own means that it could not find out; the batch is delivered again.
type Decoder[Record any] func(ctx context.Context, records []Record) (messages []Message, reasons []error, err error)

// NewReceiver makes a receiver. accept is Accept of a Worker; dead keeps what could not be read, with the reason, and returns
// once it is safe. A message that is waiting already is not accepted again; what repeated returns for it, if it is not nil
// and returns true, is accepted in its stead.
func NewReceiver[Record any](accept func(ctx context.Context, messages []Message) ([]Arrival, error), decode Decoder[Record],
	repeated func(Message) (Message, bool), dead func(ctx context.Context, records []Record, reasons []error) error) *Receiver[Record] {
	return &Receiver[Record]{accept: accept, decode: decode, repeated: repeated, dead: dead}
}

// Receive accepts a fetched batch in one transaction. Once it has returned nil, the records may be acknowledged: each has
// taken effect, or is stored, or kept as a dead letter. After an error they must be delivered again.
func (r *Receiver[Record]) Receive(ctx context.Context, records []Record) error {
	decoded, reasons, err := r.decode(ctx, records)
	if err != nil {
		return fmt.Errorf("inbox: decode %d messages: %w", len(records), err)
	}
	messages := make([]Message, 0, len(records))
	var (
		unreadable []Record
		why        []error
	)
	for i, record := range records {
		if reasons[i] != nil {
			unreadable, why = append(unreadable, record), append(why, reasons[i])
		} else {
			messages = append(messages, decoded[i])
		}
	}
	if len(unreadable) > 0 {
		if err := r.dead(ctx, unreadable, why); err != nil {
			return fmt.Errorf("inbox: keep %d dead letters: %w", len(unreadable), err)
		}
	}
	if len(messages) == 0 {
		return nil
	}
	arrivals, err := r.accept(ctx, messages)
	if err != nil || r.repeated == nil {
		return err
	}
	var instead []Message
	for i, m := range messages {
		if arrivals[i].Seq != 0 {
			continue
		}
		if other, ok := r.repeated(m); ok {
			instead = append(instead, other)
		}
	}
	if len(instead) == 0 {
		return nil
	}
	// Should this fail, the records are delivered again, and their messages are found waiting or settled.
	_, err = r.accept(ctx, instead)
	return err
}
