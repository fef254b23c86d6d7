package ledger

import (
	"time"

	"github.com/google/uuid"
)

// A request that cannot take effect yet waits: for inventory by itself, for money in a queue. Each balance has one such
// queue: behind the request that waits for more than is there come all later debits of the account in that currency, so
// that they take effect in the order in which they were accepted. Whatever gives money or ends a request passes the queue.
// The balance counts its queue; whoever credits it, in whichever lane, leaves a Resume behind.

// wait puts a request aside until what it waits for is there.
func (b *Book) wait(op *Operation, r Request, what Reason, seq int64) {
	op.Status, op.Reason = Created, what
	w := &Wait{Request: r, For: what, Seq: seq}
	switch {
	case what == WaitingForInventory:
		w.ExpiresAt = r.deadline(InventoryExpiry)
	case r.WaitForFunds:
		w.ExpiresAt = r.deadline(FundsExpiry)
	default: // behind another one; the deadline may be that of the hold which it begins, and later than anything waits
		w.ExpiresAt = earlier(r.deadline(FundsExpiry), r.accepted().Add(MaxFundsExpiry))
	}
	if what == WaitingForFunds {
		b.balance(r.key()).Waiting++
		b.touched[r.key()] = true
	}
	b.waits[r.ID], b.changes.Waits[r.ID] = w, w
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// unwait takes a request out of its queue and returns its operation, which is about to be closed or to wait again.
func (b *Book) unwait(w *Wait) *Operation {
	id := w.Request.ID
	delete(b.waits, id)
	delete(b.changes.Asked, id)
	delete(b.changes.Waits, id)
	if key := w.Request.key(); w.For == WaitingForFunds {
		balance := b.balance(key)
		balance.Waiting--
		b.touched[key] = true
		if balance.Waiting > 0 {
			b.changes.Resumes[key] = true // the next one may need less
		}
	}
	op, ok := b.operations[id]
	if !ok {
		op = Waiting(w.Request)
		b.operations[id] = op
	}
	if b.stored[id] {
		delete(b.stored, id)
		b.changes.Ended = append(b.changes.Ended, w)
		b.changes.Completed = append(b.changes.Completed, Completion{w.Request, op})
	}
	return op
}

// ask lets a request that waits be answered as its repetition says, where nobody has asked for its reply before: a command that
// has come in a batch, and now over the broker.
func (b *Book) ask(r Request) {
	w, ok := b.waits[r.ID]
	if !ok || r.Reply == nil || w.Request.Reply != nil || w.Request.Fingerprint != r.Fingerprint {
		return
	}
	if w.Request.Reply = r.Reply; b.stored[r.ID] {
		b.changes.Asked[r.ID] = w
	}
}

// resume serves the head of a queue, one after another, until the money is not enough for one that goes on waiting. What is
// behind the part of the queue that was put in gets another Resume, which unwait leaves.
func (b *Book) resume(r Request) {
	key := r.key()
	for queue := b.queues[key]; len(queue) > 0; queue = b.queues[key] {
		head := queue[0]
		if b.waits[head.Request.ID] != head { // it was ended by an earlier request of the batch
			b.queues[key] = queue[1:]
			continue
		}
		reason := b.settle(b.operationOf(head), head.Request, true)
		if reason == WaitingForFunds {
			return
		}
		b.queues[key] = queue[1:]
		op := b.unwait(head)
		b.close(op, reason)
		if head.Request.Kind == Payment {
			b.follow(op, head.Request)
		}
	}
}

// operationOf is the operation of a request that waits.
func (b *Book) operationOf(w *Wait) *Operation {
	op, ok := b.operations[w.Request.ID]
	if !ok {
		op = Waiting(w.Request)
		op.Reason = w.For
		b.operations[op.ID] = op
	}
	return op
}

// expire ends what has waited or was held until its deadline. It was found due by the database's clock, which has also dated
// the message; that of this process may be behind.
func (b *Book) expire(r Request) *Operation {
	over := func(deadline time.Time) bool {
		return b.past(deadline) || !deadline.IsZero() && !r.ReceivedAt.Before(deadline)
	}
	if r.WaitID != uuid.Nil {
		if w, ok := b.waits[r.WaitID]; ok && w.Request.AccountID == r.AccountID && over(w.ExpiresAt) {
			b.giveUp(w, PastDeadline)
		}
		return nil
	}
	hold, ok := b.holds[r.HoldID]
	if !ok || hold.AccountID != r.AccountID || hold.Status != Open || !over(hold.ExpiresAt) {
		return nil
	}
	op := b.open(r)
	b.close(op, b.free(op, hold, 0, Expired))
	if payment, ok := b.payments[hold.OrderID]; ok {
		op.OrderID = payment.OrderID
		b.become(payment, failed(PastDeadline), r)
	}
	return op
}

func (b *Book) past(deadline time.Time) bool { return !deadline.IsZero() && !b.Now.Before(deadline) }

// cancelOperation ends an operation that waits. What is not an order's waits for money only, so whatever is Created is in a
// queue.
func (b *Book) cancelOperation(r Request) Reason {
	op, ok := b.operations[r.OperationID]
	switch {
	case !ok || op.AccountID != r.AccountID || op.Kind == CancelOperation:
		return OperationNotFound
	case op.OrderID != uuid.Nil:
		return OperationOfOrder
	case op.Status != Created:
		return OperationFinal
	}
	op.Note = r.Note
	b.giveUp(b.waits[op.ID], Cancelled)
	return ""
}

// giveUp ends what waits without effect.
func (b *Book) giveUp(w *Wait, reason Reason) {
	op := b.unwait(w)
	b.close(op, reason)
	if w.Request.Kind == Payment {
		b.follow(op, w.Request)
	}
}
