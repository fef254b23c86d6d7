package inbox

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
	"golang.org/x/sync/errgroup"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/postgres"
)

// Halves is how many parts of the lanes take messages in at the same time: while one's transaction is in the server, the other
// one's is here.
const Halves = 2

// Half is the half of the lanes that a lane is in.
func Half(lane int16) int { return int(lane) * Halves / contract.Lanes }

// Accept takes messages in, in this order per account, and returns their arrival numbers as Insert does: once it has returned
// without an error they are safe. Where nothing is ahead of a message, it takes its effect in this very transaction and is
// never stored: its lane is free and empty, and its account is not stopped. The others are stored for Run, and so are all
// of them when the handler fails, so that Run finds the one that causes it.
//
// A message that has taken effect before is handled again, as one that was stored again would be. After an error some
// messages may have been accepted: they may be sent again. In each half of the lanes one call works at a time; what arrives
// meanwhile is best gathered by the caller. The messages should not be many more than Run settles at a time.
func (w *Worker) Accept(ctx context.Context, messages []Message) ([]int64, error) {
	var parts [Halves][]Message
	var indexes [Halves][]int // of the parts in messages
	for i, m := range messages {
		half := Half(m.Lane)
		parts[half], indexes[half] = append(parts[half], m), append(indexes[half], i)
	}
	for half := range parts {
		if len(parts[half]) == 0 {
			continue
		}
		select {
		case w.accepting[half] <- struct{}{}:
			defer func() { <-w.accepting[half] }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if len(messages) < largeBatch {
		return w.acceptTogether(ctx, messages)
	}
	arrivals := make([]int64, len(messages))
	var group errgroup.Group
	for half, part := range parts {
		group.Go(func() error {
			accepted, err := w.acceptTogether(ctx, part)
			for n, arrival := range accepted {
				arrivals[indexes[half][n]] = arrival
			}
			return err
		})
	}
	err := group.Wait()
	return arrivals, err
}

// acceptTogether accepts messages in one transaction.
func (w *Worker) acceptTogether(ctx context.Context, messages []Message) ([]int64, error) {
	if len(messages) == 0 {
		return nil, nil
	}
	arrivals, err := w.accept(ctx, messages)
	if err == nil || ctx.Err() != nil || postgres.IsUnavailable(err) {
		return arrivals, err
	}
	w.log.Warn("messages could not take effect at once; they are stored", "messages", len(messages), "error", err)
	arrivals, err = Insert(ctx, w.db, messages)
	w.Wake()
	return arrivals, err
}

func (w *Worker) accept(ctx context.Context, messages []Message) (arrivals []int64, err error) {
	var (
		direct    []Message
		later     []Message
		committed func()
		begin     = time.Now()
	)
	err = postgres.InTx(ctx, w.db, func(tx *sqlx.Tx) error {
		arrivals, direct, later, committed = make([]int64, len(messages)), nil, nil, nil
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
				arrivals[i] = m.Seq
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
			arrivals[i] = stored[n]
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(direct) > 0 {
		w.settled(len(direct), begin, committed)
	}
	if len(later) > 0 {
		w.Wake()
	}
	return arrivals, nil
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
func whatIsAhead(ctx context.Context, tx *sqlx.Tx, lanes postgres.Int16s, messages []Message) (ahead, error) {
	accounts := make(postgres.UUIDs, len(messages))
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
