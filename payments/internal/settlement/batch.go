package settlement

import (
	"time"

	"github.com/altyn-pay/altyn/payments/internal/billing"
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/outbox"
)

// batch is the messages of one transaction, and what becomes of them.
type batch struct {
	present    billing.Presenter
	book       *ledger.Book
	requests   []ledger.Request
	operations []*ledger.Operation
	expired    []*ledger.Operation // the releases of holds whose time was over
	replies    []outbox.Message
	answered   map[answer]int
}

// answer is what commands are counted by.
type answer struct {
	kind ledger.Kind
	code int
}

func newBatch(present billing.Presenter, messages []postgres.Message) *batch {
	n := len(messages)
	b := &batch{
		present: present, requests: make([]ledger.Request, n), operations: make([]*ledger.Operation, 0, n),
		answered: make(map[answer]int),
		// To the microsecond, as the database keeps it: an answer right after the commit and one years later are the same.
		book: ledger.NewBook(time.Now().UTC().Truncate(time.Microsecond), n),
	}
	for i, m := range messages {
		b.requests[i] = billing.Request(m)
	}
	return b
}

// apply applies the requests to the book, which is loaded by now, and answers them.
func (b *batch) apply() (ledger.Changes, error) {
	var waiting []ledger.Completion // requests of this batch that wait
	for _, r := range b.requests {
		op := b.book.Apply(r)
		if err := b.respond(r, op); err != nil {
			return ledger.Changes{}, err
		}
		if op == nil {
			continue
		}
		b.operations = append(b.operations, op)
		if r.Kind() == ledger.KindExpire && op.Seq == r.Seq {
			b.expired = append(b.expired, op)
		}
		if op.Status == ledger.Created {
			waiting = wait(waiting, r, op)
		}
	}
	for _, c := range waiting { // a later request of the batch may have ended it
		if err := b.respond(c.Request, c.Operation); err != nil {
			return ledger.Changes{}, err
		}
	}
	changes := b.book.Changes()
	for _, c := range changes.Completed {
		b.operations = append(b.operations, c.Operation)
		if err := b.respond(c.Request, c.Operation); err != nil {
			return ledger.Changes{}, err
		}
	}
	return changes, nil
}

// respond adds the reply to a request that has asked for one. While the operation waits there is none; the one that is
// sent once it has ended answers its repetitions too.
func (b *batch) respond(r ledger.Request, op *ledger.Operation) error {
	if r.Reply == nil || op != nil && op.Status == ledger.Created && op.Fingerprint == r.Fingerprint {
		return nil
	}
	reply, code, err := b.present.Reply(b.book, r, op)
	if err != nil {
		return err
	}
	b.replies = append(b.replies, reply)
	b.answered[answer{r.Kind(), code}]++
	return nil
}

// wait adds a request to the waiting ones of a batch. If it repeats one of them that has asked for no reply, that one
// gets its Reply instead.
func wait(waiting []ledger.Completion, r ledger.Request, op *ledger.Operation) []ledger.Completion {
	if op.Seq == r.Seq {
		return append(waiting, ledger.Completion{Request: r, Operation: op})
	}
	for i, c := range waiting {
		if c.Operation == op && c.Request.Reply == nil && c.Request.Fingerprint == r.Fingerprint {
			waiting[i].Request.Reply = r.Reply
		}
	}
	return waiting
}
