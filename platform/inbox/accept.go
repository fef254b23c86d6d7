package inbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/altyn-pay/altyn/platform/contract"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// Halves is how many parts of the lanes take messages in at the same time: while one's transaction is in the server, the other
// one's is here.
const Halves = 2

// Half is the half of the lanes that a lane is in.
func Half(lane int16) int { return int(lane) * Halves / contract.Lanes }

// Arrival tells the records of one acceptance of a message from those of others.
type Arrival struct {
	// Seq is the message's arrival number, or 0 where a message with its ID was waiting already.
	Seq int64
	// tries are the numbers under which it may have been accepted before, when the outcome of a commit was not known.
	tries []int64
}

// Made reports whether a record with this arrival number is of this acceptance.
func (a Arrival) Made(seq int64) bool {
	return seq != 0 && (seq == a.Seq || slices.Contains(a.tries, seq))
}

// begin begins another try.
func (a *Arrival) begin() {
	if a.Seq != 0 {
		a.tries, a.Seq = append(a.tries, a.Seq), 0
	}
}

// Accept takes messages in, in this order per account: once it has returned without an error they are safe. Where nothing is
// ahead of a message, it takes its effect in this very transaction and is never stored: its lane is free and empty, and its
// account is not stopped. The others are stored for Run, and so are all of them when the handler fails, so that Run finds the
// one that causes it.
//
// A message that has taken effect before is handled again, as one that was stored again would be. So Accept itself tries again
// when it does not know whether a transaction was committed. After an error no message was accepted, unless
// pg.IsOutcomeUnknown(err): then any of them may have been, and may be sent again. In each half of the lanes one call
// works at a time; what arrives meanwhile is best gathered by the caller. The messages should not be many more than Run settles
// at a time.
func (w *Worker) Accept(ctx context.Context, messages []Message) ([]Arrival, error) {
	var parts [Halves]part
	for i, m := range messages {
		p := &parts[Half(m.Lane)]
		p.messages, p.indexes = append(p.messages, m), append(p.indexes, i)
	}
	for half := range parts {
		if len(parts[half].messages) == 0 {
			continue
		}
		select {
		case w.accepting[half] <- struct{}{}:
			defer func() { <-w.accepting[half] }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	arrivals := make([]Arrival, len(messages))
	if len(messages) < largeBatch {
		err := pg.UntilKnown(ctx, func() error { return w.acceptTogether(ctx, messages, arrivals) })
		return arrivals, err
	}
	err := pg.UntilKnown(ctx, func() error { return w.acceptParts(ctx, parts[:], arrivals) })
	return arrivals, err
}

// part is what is accepted in one transaction.
type part struct {
	messages []Message
	indexes  []int // in the whole
	arrivals []Arrival
	accepted bool
}

// acceptParts accepts those parts that were not accepted yet, each in a transaction of its own. While some are and others are
// not, what became of the whole is not known.
func (w *Worker) acceptParts(ctx context.Context, parts []part, arrivals []Arrival) error {
	var group sync.WaitGroup
	errs, accepted := make([]error, len(parts)), false
	for n := range parts {
		p := &parts[n]
		if p.accepted || len(p.messages) == 0 {
			continue
		}
		if p.arrivals == nil {
			p.arrivals = make([]Arrival, len(p.messages))
		}
		group.Go(func() {
			errs[n] = w.acceptTogether(ctx, p.messages, p.arrivals)
			p.accepted = errs[n] == nil
		})
	}
	group.Wait()
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

// acceptTogether accepts messages in one transaction. It sets the arrivals also where its outcome is not known.
func (w *Worker) acceptTogether(ctx context.Context, messages []Message, arrivals []Arrival) error {
	for i := range arrivals {
		arrivals[i].begin()
	}
	err := w.accept(ctx, messages, arrivals)
	if err == nil || ctx.Err() != nil || pg.IsUnavailable(err) || pg.IsOutcomeUnknown(err) {
		return err
	}
	w.log.Warn("messages could not take effect at once; they are stored", "messages", len(messages), "error", err)
	err = store(ctx, w.db, messages, arrivals)
	w.Wake()
	return err
}

// Store takes messages in for Run, in this order per account, as Accept does where something is ahead of them.
func Store(ctx context.Context, db *sqlx.DB, messages []Message) ([]Arrival, error) {
	arrivals := make([]Arrival, len(messages))
	err := pg.UntilKnown(ctx, func() error {
		for i := range arrivals {
			arrivals[i].begin()
		}
		return store(ctx, db, messages, arrivals)
	})
	return arrivals, err
}

// store stores messages in one transaction: it has their arrival numbers also where the outcome of its commit is not known.
func store(ctx context.Context, db *sqlx.DB, messages []Message, arrivals []Arrival) error {
	var seqs []int64
	err := pg.InTx(ctx, db, func(tx *sqlx.Tx) (err error) {
		seqs, err = Insert(ctx, tx, messages)
		return err
	})
	if err == nil || pg.IsOutcomeUnknown(err) {
		for i, seq := range seqs {
			arrivals[i].Seq = seq
		}
	}
	return err
}

func (w *Worker) accept(ctx context.Context, messages []Message, arrivals []Arrival) error {
	var (
		seqs      []int64
		direct    []Message
		later     []Message
		committed func()
		begin     = time.Now()
	)
	err := pg.InTx(ctx, w.db, func(tx *sqlx.Tx) error {
		seqs, direct, later, committed = make([]int64, len(messages)), nil, nil, nil
		lanes, err := lockLanes(ctx, tx, messages, 0)
		if err != nil {
			return err
		}
		a, err := whatIsAhead(ctx, tx, lanes, messages)
		if err != nil {
			return err
		}
		var indexes []int // of later in messages
		taken := make(map[uuid.UUID]bool, len(messages))
		for i, m := range messages {
			switch {
			case a.of(m):
				later, indexes = append(later, m), append(indexes, i)
			case !taken[m.ID]: // the second of two is like one that is waiting already
				taken[m.ID] = true
				m.Seq, m.ReceivedAt = a.seqs[i], a.at
				seqs[i] = m.Seq
				direct = append(direct, m)
			}
		}
		if len(direct) > 0 {
			if committed, err = w.call(ctx, tx, direct); err != nil {
				return err
			}
		}
		if len(later) == 0 {
			return nil
		}
		stored, err := Insert(ctx, tx, later)
		if err != nil {
			return err
		}
		for n, i := range indexes {
			seqs[i] = stored[n]
		}
		return nil
	})
	if err == nil || pg.IsOutcomeUnknown(err) {
		for i, seq := range seqs {
			arrivals[i].Seq = seq
		}
	}
	if err != nil {
		return err
	}
	if len(direct) > 0 {
		w.settled(len(direct), begin, committed)
	}
	if len(later) > 0 {
		w.Wake()
	}
	return nil
}

// ahead tells which messages others are ahead of, and has arrival numbers for those that may take effect at once.
type ahead struct {
	held     map[int16]bool // lanes that this transaction holds and that are empty
	accounts map[uuid.UUID]bool
	at       time.Time
	seqs     []int64
}

func (a ahead) of(m Message) bool { return !a.held[m.Lane] || a.accounts[m.AccountID] }

// whatIsAhead looks at the held lanes, in a statement of its own after the one that has locked them: so it sees what was
// committed before.
func whatIsAhead(ctx context.Context, tx *sqlx.Tx, lanes pg.Int16s, messages []Message) (ahead, error) {
	accounts := make(pg.UUIDs, len(messages))
	for i, m := range messages {
		accounts[i] = m.AccountID
	}
	var row struct {
		At    time.Time      `db:"at"`
		Empty pq.Int64Array  `db:"empty"`
		Stops pq.StringArray `db:"stops"`
		Seqs  pq.Int64Array  `db:"seqs"`
	}
	if err := tx.GetContext(ctx, &row, `
		SELECT clock_timestamp() AS at,
			ARRAY(SELECT held FROM unnest($1::smallint[]) AS held
				WHERE NOT EXISTS (SELECT FROM inbox WHERE lane = held AND NOT stopped)) AS empty,
			ARRAY(SELECT account_id FROM inbox_stops WHERE account_id = ANY($2::uuid[])) AS stops,
			ARRAY(SELECT nextval('inbox_seq_seq') FROM generate_series(1, cardinality($2::uuid[]))) AS seqs`,
		lanes, accounts); err != nil {
		return ahead{}, fmt.Errorf("inbox: look what is ahead: %w", err)
	}
	a := ahead{held: make(map[int16]bool, len(row.Empty)), accounts: make(map[uuid.UUID]bool, len(row.Stops)), at: row.At, seqs: row.Seqs}
	for _, lane := range row.Empty {
		a.held[int16(lane)] = true
	}
	for _, text := range row.Stops {
		account, err := uuid.Parse(text)
		if err != nil {
			return ahead{}, fmt.Errorf("inbox: stopped account: %w", err)
		}
		a.accounts[account] = true
	}
	slices.Sort(a.seqs)
	return a, nil
}
