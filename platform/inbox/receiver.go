package inbox

import (
	"context"
	"fmt"
)

// Receiver accepts what a broker delivers. Record is the broker's form of a message.
type Receiver[Record, B any] struct {
	intake   *Intake[B]
	decode   Decoder[Record, B]
	repeated func(Message[B]) (Message[B], bool)
}

// Decoder makes messages of a fetched batch. For each record it returns the message, or the reason why it cannot be
// read. An error of its own means that it could not find out; the batch is delivered again.
type Decoder[Record, B any] func(ctx context.Context, records []Record) (
	messages []Message[B], reasons []error, err error)

// NewReceiver makes a receiver. A message that is waiting already is not accepted again; what repeated returns for it,
// if repeated is not nil and returns true, is accepted in its stead.
func NewReceiver[Record, B any](intake *Intake[B], decode Decoder[Record, B],
	repeated func(Message[B]) (Message[B], bool)) *Receiver[Record, B] {
	return &Receiver[Record, B]{intake: intake, decode: decode, repeated: repeated}
}

// Receive accepts a fetched batch, and returns the records that cannot be read, with the reasons. Once these are kept
// elsewhere, all records may be acknowledged: each other one has taken effect or is stored. After an error they must be
// delivered again.
func (r *Receiver[Record, B]) Receive(ctx context.Context, records []Record) (
	unreadable []Record, reasons []error, err error) {
	decoded, problems, err := r.decode(ctx, records)
	if err != nil {
		return nil, nil, fmt.Errorf("inbox: decode %d messages: %w", len(records), err)
	}
	messages := make([]Message[B], 0, len(records))
	for i, record := range records {
		if problems[i] != nil {
			unreadable, reasons = append(unreadable, record), append(reasons, problems[i])
		} else {
			messages = append(messages, decoded[i])
		}
	}
	if len(messages) == 0 {
		return unreadable, reasons, nil
	}
	// A fetch is a batch already; nothing is gained by waiting for others.
	arrivals, err := r.intake.acceptNow(ctx, messages)
	if err != nil || r.repeated == nil {
		return unreadable, reasons, err
	}
	var instead []Message[B]
	for i, m := range messages {
		if arrivals[i].Seq != 0 {
			continue
		}
		if other, ok := r.repeated(m); ok {
			instead = append(instead, other)
		}
	}
	if len(instead) > 0 {
		// Should this fail, the records are delivered again, and their messages are found waiting or settled.
		_, err = r.intake.acceptNow(ctx, instead)
	}
	return unreadable, reasons, err
}
