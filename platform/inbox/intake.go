package inbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
	"golang.org/x/sync/errgroup"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/groupcommit"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/stage"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

const (
	// halves is how many parts of the lanes accept messages at the same time: while the transaction of one is in the
	// server, that of the other is here.
	halves = 2

	maxGroup = 1000   // messages of different calls accepted in one transaction
	maxQueue = 10_000 // messages that may wait for it; more are refused with groupcommit.ErrBusy

	// largeBatch is accepted in two transactions: it is large enough that the price of the second one does not count.
	largeBatch = 500

	maxParts = 4 // transactions of a batch at the same time
)

// half is the part of the lanes that a lane is in.
func half(lane int16) int { return int(lane) * halves / contract.Lanes }

// Arrival tells one acceptance of a message from others.
type Arrival struct {
	// Seq is the message's arrival number, or 0 where a message with its ID was waiting already.
	Seq int64
	// tries are the arrival numbers of earlier tries whose outcome is unknown.
	tries []int64
}

// Made reports whether this acceptance made the record with this arrival number.
func (a Arrival) Made(seq int64) bool {
	return seq != 0 && (seq == a.Seq || slices.Contains(a.tries, seq))
}

// begin begins another try to accept messages.
func begin(arrivals []Arrival) {
	for i := range arrivals {
		if a := &arrivals[i]; a.Seq != 0 {
			a.tries, a.Seq = append(a.tries, a.Seq), 0
		}
	}
}

// arrived sets the arrival numbers of a try that ended with err, unless the try surely had no effect.
func arrived(arrivals []Arrival, seqs []int64, err error) error {
	if err == nil || pg.IsOutcomeUnknown(err) {
		for i, seq := range seqs {
			arrivals[i].Seq = seq
		}
	}
	return err
}

// Intake is the way in for messages; see the package's documentation for what it promises. It is used by any number of
// goroutines.
type Intake[B any] struct {
	inbox  *Inbox[B]
	worker *Worker[B] // nil: other processes settle

	single [halves]*groupcommit.Group[Message[B], Arrival]
	batch  *groupcommit.Group[Message[B], Arrival]
	busy   [halves]chan struct{} // has an element while that half of the lanes is being accepted
}

// NewIntake makes an intake. worker is that of this process, whose handler gives messages their effect at once;
// without one all messages are stored for the workers of other processes.
func NewIntake[B any](inbox *Inbox[B], worker *Worker[B]) *Intake[B] {
	in := &Intake[B]{inbox: inbox, worker: worker}
	mayBeMessage := func(err error) bool { return !pg.IsTransient(err) }
	group := func() *groupcommit.Group[Message[B], Arrival] {
		return groupcommit.New(maxGroup, maxQueue, mayBeMessage, in.acceptNow)
	}
	in.batch = group()
	for i := range in.single {
		in.single[i] = group()
		in.busy[i] = make(chan struct{}, 1)
	}
	return in
}

// Accept accepts messages, in this order per account, and returns their arrivals. Calls that come at the same time
// share a transaction. A message that has taken effect before is handled again, as one that was stored again would be.
//
// Besides what the package promises, the error may be groupcommit.ErrBusy, when too many messages wait to be accepted,
// or that of ctx, when it ends first; then the messages may still be accepted.
func (in *Intake[B]) Accept(ctx context.Context, messages ...Message[B]) ([]Arrival, error) {
	if len(messages) == 1 {
		return in.single[half(messages[0].Lane)].DoAll(ctx, messages)
	}
	return in.batch.DoAll(ctx, messages)
}

// acceptNow accepts messages without waiting for others to share the transaction.
func (in *Intake[B]) acceptNow(ctx context.Context, messages []Message[B]) ([]Arrival, error) {
	if in.worker == nil {
		return in.inbox.Store(ctx, messages)
	}
	var touched [halves]bool
	for _, m := range messages {
		touched[half(m.Lane)] = true
	}
	for i := range touched {
		if !touched[i] {
			continue
		}
		select {
		case in.busy[i] <- struct{}{}:
			defer func() { <-in.busy[i] }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	arrivals := make([]Arrival, len(messages))
	parts := in.split(messages)
	err := pg.UntilKnown(ctx, func() error {
		if len(parts) == 1 {
			return in.acceptTogether(ctx, messages, arrivals)
		}
		return in.acceptParts(ctx, parts, arrivals)
	})
	return arrivals, err
}

// part is what is accepted in one transaction.
type part[B any] struct {
	messages []Message[B]
	indexes  []int // in the whole
	arrivals []Arrival
	accepted bool
}

// split splits messages by the halves of the lanes, if they are many. On Citus it splits them by the shards, as a
// transaction in one shard is the node's alone.
func (in *Intake[B]) split(messages []Message[B]) (parts []part[B]) {
	var of [contract.Lanes]int // the part of each lane
	switch {
	case pg.Distributed(in.inbox.db):
		for i, shard := range pg.Shards(in.inbox.db, 0) {
			for _, lane := range shard {
				of[lane] = i
			}
		}
	case len(messages) >= largeBatch:
		for lane := range of {
			of[lane] = half(int16(lane))
		}
	}
	parts = make([]part[B], slices.Max(of[:])+1)
	for i, m := range messages {
		p := &parts[of[m.Lane]]
		p.messages, p.indexes = append(p.messages, m), append(p.indexes, i)
	}
	return slices.DeleteFunc(parts, func(p part[B]) bool { return len(p.messages) == 0 })
}

// acceptParts accepts the parts that are not accepted yet, each in a transaction of its own. If only some of them
// succeed, the outcome of the whole is unknown.
func (in *Intake[B]) acceptParts(ctx context.Context, parts []part[B], arrivals []Arrival) error {
	var group errgroup.Group
	group.SetLimit(maxParts)
	errs, accepted := make([]error, len(parts)), false
	for n := range parts {
		p := &parts[n]
		if p.accepted {
			continue
		}
		if p.arrivals == nil {
			p.arrivals = make([]Arrival, len(p.messages))
		}
		group.Go(func() error {
			errs[n] = in.acceptTogether(ctx, p.messages, p.arrivals)
			p.accepted = errs[n] == nil
			return nil
		})
	}
	_ = group.Wait()
	for _, p := range parts {
		accepted = accepted || p.accepted
		for n, arrival := range p.arrivals {
			arrivals[p.indexes[n]] = arrival
		}
	}
	err := errors.Join(errs...)
	if err != nil && accepted {
		return pg.OutcomeUnknown(err)
	}
	return err
}

// acceptTogether accepts messages in one transaction. If the handler fails, all are stored, and the worker finds the
// message at fault. It sets the arrivals even if the outcome is unknown.
func (in *Intake[B]) acceptTogether(ctx context.Context, messages []Message[B], arrivals []Arrival) error {
	begin(arrivals)
	err := in.accept(ctx, messages, arrivals)
	if err == nil || ctx.Err() != nil || pg.IsUnavailable(err) || pg.IsOutcomeUnknown(err) {
		return err
	}
	in.worker.log.Warn("messages could not take effect at once; they are stored", "messages", len(messages), "error", err)
	err = in.inbox.store(ctx, messages, arrivals)
	in.worker.Wake()
	return err
}

// accept gives the messages that have nothing ahead of them their effect, and stores the others, in one transaction.
func (in *Intake[B]) accept(ctx context.Context, messages []Message[B], arrivals []Arrival) error {
	var (
		seqs      []int64
		direct    []Message[B]
		later     []Message[B]
		committed func()
		spans     *telemetry.Batch
		begun     = time.Now()
	)
	err := pg.InTx(ctx, in.inbox.db, func(tx *sqlx.Tx) error {
		spans.End(errAgain)
		seqs, direct, later, committed, spans = make([]int64, len(messages)), nil, nil, nil, nil
		all := lanesOf(messages)
		r, err := receive(ctx, tx, all)
		if err != nil {
			return err
		}
		a, err := whatIsAhead(ctx, tx, r.lanes, all, accountsOf(messages))
		if err != nil {
			return err
		}
		if err := in.setExempt(ctx, tx, &a, messages); err != nil {
			return err
		}
		var indexes []int // of later in messages
		taken := make(map[uuid.UUID]bool, len(messages))
		for i, m := range messages {
			if m.Unknown != "" { // a worker stops its account
				a.stopped[m.AccountID] = true
			}
			switch {
			case !a.free[m.Lane], a.stopped[m.AccountID] && !a.exempt[i]:
				later, indexes = append(later, m), append(indexes, i)
			case !taken[m.ID]: // the second of two is like one that is waiting already
				taken[m.ID] = true
				m.Seq, m.ReceivedAt = r.seqs[i], r.at
				seqs[i] = m.Seq
				direct = append(direct, m)
			}
		}
		if len(direct) > 0 {
			spans = in.worker.begin(direct)
			if err := stage.Guard(in.worker.log, func() (err error) {
				committed, err = in.worker.handle(telemetry.WithBatch(ctx, spans), tx, direct)
				return err
			}); err != nil {
				return err
			}
		}
		if len(later) == 0 {
			return nil
		}
		stored, err := in.inbox.Insert(ctx, tx, later)
		if err != nil {
			return err
		}
		for n, i := range indexes {
			seqs[i] = stored[n]
		}
		return nil
	})
	in.worker.end(spans, len(direct), err)
	if err := arrived(arrivals, seqs, err); err != nil {
		return err
	}
	if len(direct) > 0 {
		in.worker.settled(len(direct), begun, committed)
	}
	if len(later) > 0 {
		in.worker.Wake()
	}
	return nil
}

func lanesOf[B any](messages []Message[B]) pg.Int16s {
	lanes := make(pg.Int16s, len(messages))
	for i, m := range messages {
		lanes[i] = m.Lane
	}
	return lanes
}

func accountsOf[B any](messages []Message[B]) pg.UUIDs {
	accounts := make(pg.UUIDs, len(messages))
	for i, m := range messages {
		accounts[i] = m.AccountID
	}
	return accounts
}

// receipt is what messages get that may take effect at once.
type receipt struct {
	lanes pg.Int16s // those of the messages' that this transaction holds
	at    time.Time
	seqs  []int64 // arrival numbers, drawn once the lanes were locked
}

// receive locks those of the lanes of messages that are free.
func receive(ctx context.Context, tx *sqlx.Tx, lanes pg.Int16s) (r receipt, err error) {
	sorted := slices.Clone(lanes)
	slices.Sort(sorted)
	var held, seqs pq.Int64Array
	if err := tx.QueryRowxContext(ctx, `
		SELECT held, clock_timestamp(), ARRAY(
			SELECT nextval('inbox_seq_seq') FROM generate_series(1, $3::integer) WHERE held IS NOT NULL)
		FROM (
			SELECT ARRAY(
				SELECT lane FROM unnest($1::smallint[]) AS lane WHERE pg_try_advisory_xact_lock($2::integer, lane)) AS held
			OFFSET 0
		) locked`, slices.Compact(sorted), lockClass, len(lanes)).Scan(&held, &r.at, &seqs); err != nil {
		return receipt{}, fmt.Errorf("inbox: lock lanes: %w", err)
	}
	for _, lane := range held {
		r.lanes = append(r.lanes, int16(lane))
	}
	slices.Sort(seqs)
	r.seqs = seqs
	return r, nil
}

// ahead says which messages have something ahead of them.
type ahead struct {
	free    map[int16]bool // lanes that this transaction holds and that are empty
	stopped map[uuid.UUID]bool
	exempt  map[int]bool // messages that do not wait although their account is stopped
}

// setExempt finds the messages of stopped accounts that do not wait.
func (in *Intake[B]) setExempt(ctx context.Context, tx *sqlx.Tx, a *ahead, messages []Message[B]) error {
	var some []Message[B]
	var indexes []int
	for i, m := range messages {
		if in.inbox.Exempt != nil && a.stopped[m.AccountID] && m.Unknown == "" {
			some, indexes = append(some, m), append(indexes, i)
		}
	}
	if len(some) == 0 {
		return nil
	}
	are, err := in.inbox.Exempt(ctx, tx, some)
	a.exempt = make(map[int]bool, len(are))
	for n, is := range are {
		a.exempt[indexes[n]] = is
	}
	return err
}

// whatIsAhead looks at the held lanes, in a statement of its own after the one that has locked them: so it sees what
// was committed before.
func whatIsAhead(ctx context.Context, tx *sqlx.Tx, lanes, all pg.Int16s, accounts pg.UUIDs) (ahead, error) {
	var rows []struct {
		Free    pq.Int64Array  `db:"free"`
		Stopped pq.StringArray `db:"stopped"`
	}
	if err := tx.SelectContext(ctx, &rows, `
		SELECT
			ARRAY(SELECT held FROM unnest($1::smallint[]) AS held
				WHERE `+pg.InLanes("held", "$3")+` AND NOT EXISTS (
					SELECT FROM inbox WHERE lane = held AND NOT stopped AND `+pg.InLanes("lane", "$3")+`)) AS free,
			ARRAY(SELECT account_id FROM inbox_stops
				WHERE account_id = ANY($2::uuid[]) AND `+pg.InLanes("lane", "$3")+`) AS stopped`,
		lanes, accounts, pg.Lanes(all)); err != nil {
		return ahead{}, fmt.Errorf("inbox: look what is ahead: %w", err)
	}
	a := ahead{free: make(map[int16]bool, len(lanes)), stopped: make(map[uuid.UUID]bool)}
	for _, row := range rows {
		for _, lane := range row.Free {
			a.free[int16(lane)] = true
		}
		for _, text := range row.Stopped {
			account, err := uuid.Parse(text)
			if err != nil {
				return ahead{}, fmt.Errorf("inbox: stopped account: %w", err)
			}
			a.stopped[account] = true
		}
	}
	return a, nil
}

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

// NewReceiver makes a receiver. A message that is waiting already is not accepted again. If repeated is not nil and
// returns true for it, the message that repeated returns is accepted instead.
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
