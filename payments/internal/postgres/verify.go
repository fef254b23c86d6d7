package postgres

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
	"golang.org/x/sync/errgroup"

	"github.com/altyn-pay/altyn/payments/internal/chain"
	"github.com/altyn-pay/altyn/platform/contract"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

const (
	// links is how many links of the chain are read at once.
	links = 256
	// maxUneven is how many groups of rows are searched for differences.
	maxUneven = 1024
)

// Verifying says how to compare the ledger with its chain.
type Verifying struct {
	Sealings int64                 // how many sealings there may be
	Heads    []contract.LedgerHead // what was published
	Archive  string                // the schema to whose tables rows were moved; "" for none
	Progress func(done, all int)   // may be nil; is called by several goroutines
}

// Verification is what a comparison has found.
type Verification struct {
	Rows        int64        // of all tables
	Archived    int64        // those of them that are in the archive
	Links       int64        // of the chain
	Items       int64        // of the links and of what is not linked yet
	Sealings    []Sealing    // in their order
	Differences []Difference // those of the chain itself first, then in the order of the links
	Unsearched  int          // groups of rows that have differences too, but were not searched, since there are so many
}

// Sealing is an addition of rows from before the chain.
type Sealing struct {
	Number int64
	At     time.Time
	Items  int64
}

// Missing is What is the matter with a row that is not there.
const Missing = "is missing"

// Difference is a row that is not what it must be.
type Difference struct {
	Table string
	ID    string
	What  string
	Link  int64 // that wrote it, or 0
}

// compare orders differences. What is in no link comes last.
func (d Difference) compare(other Difference) int {
	rank := func(d Difference) int {
		if d.Table == "chain" {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(rank(d), rank(other)), cmp.Compare(uint64(d.Link-1), uint64(other.Link-1)),
		cmp.Compare(d.Table, other.Table), cmp.Compare(d.ID, other.ID))
}

// Verify compares the rows of the database with the chain, as of one moment. Writers need not wait meanwhile, but dead
// rows stay until it has ended. It takes some dozens of megabytes, however large the ledger is. The nodes of Citus are
// seen at moments that differ, so there a difference counts if it is found twice in turn.
func (s *Store) Verify(ctx context.Context, v Verifying) (Verification, error) {
	result, err := s.verify(ctx, v)
	if err != nil || len(result.Differences) == 0 || !pg.Distributed(s.db) {
		return result, err
	}
	first := result.Differences
	if result, err = s.verify(ctx, v); err != nil {
		return result, err
	}
	result.Differences = slices.DeleteFunc(result.Differences, func(d Difference) bool {
		return !slices.ContainsFunc(first, func(f Difference) bool {
			f.Link = d.Link // it may have been linked meanwhile
			return f == d
		})
	})
	return result, nil
}

func (s *Store) verify(ctx context.Context, v Verifying) (Verification, error) {
	const sessions = 2
	var txs []*sqlx.Tx
	defer func() {
		for _, tx := range txs {
			_ = tx.Rollback()
		}
	}()
	var snapshot string
	for range sessions {
		tx, err := s.db.BeginTxx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
		if err != nil {
			return Verification{}, fmt.Errorf("begin: %w", err)
		}
		txs = append(txs, tx)
		if snapshot != "" {
			if _, err := tx.ExecContext(ctx, `SET TRANSACTION SNAPSHOT '`+snapshot+`'`); err != nil {
				return Verification{}, fmt.Errorf("share a snapshot: %w", err)
			}
		} else if err := tx.GetContext(ctx, &snapshot, `SELECT pg_export_snapshot()`); err != nil {
			return Verification{}, fmt.Errorf("share a snapshot: %w", err)
		}
		if _, err := tx.ExecContext(ctx, `SET LOCAL idle_in_transaction_session_timeout = 0`); err != nil {
			return Verification{}, fmt.Errorf("share a snapshot: %w", err)
		}
	}
	c := comparison{Verifying: v, txs: txs, shards: pg.Shards(s.db, 0)}
	return c.verify(ctx)
}

// verify compares what the transactions see, which is the same for all.
func (c *comparison) verify(ctx context.Context) (Verification, error) {
	if err := c.plan(ctx); err != nil {
		return Verification{}, err
	}
	sums := chain.NewSums()
	counters := make([]*counter, len(c.txs))
	if err := c.run(ctx, func(worker int) sink {
		counters[worker] = &counter{sums: sums.Empty(), sealings: make(map[int64]Sealing)}
		return counters[worker]
	}); err != nil {
		return Verification{}, err
	}
	result := Verification{Links: c.last}
	sealings := make(map[int64]Sealing)
	for _, counter := range counters {
		sums.Merge(counter.sums)
		result.Rows += counter.rows
		result.Items += counter.items
		result.Differences = append(result.Differences, counter.found...)
		for n, s := range counter.sealings {
			s.Items += sealings[n].Items
			if at := sealings[n].At; !at.IsZero() && at.Before(s.At) {
				s.At = at
			}
			sealings[n] = s
		}
	}
	result.Archived = c.archived.Load()
	for _, s := range sealings {
		result.Sealings = append(result.Sealings, s)
	}
	slices.SortFunc(result.Sealings, func(a, b Sealing) int { return cmp.Compare(a.Number, b.Number) })
	if err := c.checkHeads(ctx, &result); err != nil {
		return Verification{}, err
	}
	if uneven := sums.Uneven(); len(uneven) > 0 {
		result.Unsearched = max(0, len(uneven)-maxUneven)
		found, err := c.search(ctx, sums, uneven[:min(len(uneven), maxUneven)])
		if err != nil {
			return Verification{}, err
		}
		result.Differences = append(result.Differences, found...)
	}
	slices.SortStableFunc(result.Differences, Difference.compare)
	return result, nil
}

// comparison is the work of verify, in parts that can be done in any order.
type comparison struct {
	Verifying
	txs    []*sqlx.Tx
	shards []pg.Lanes
	last   int64 // link

	archived atomic.Int64 // rows read from the archive
	parts    []func(ctx context.Context, tx *sqlx.Tx, out sink) error
}

// plan divides the work.
func (c *comparison) plan(ctx context.Context) error {
	tx := c.txs[0]
	if err := tx.GetContext(ctx, &c.last, `SELECT coalesce(max(number), 0) FROM chain`); err != nil {
		return fmt.Errorf("last link: %w", err)
	}
	for first := int64(0); first <= c.last; first += links {
		c.parts = append(c.parts, func(ctx context.Context, tx *sqlx.Tx, out sink) error {
			return c.readLinks(ctx, tx, first, out)
		})
	}
	c.parts = append(c.parts, c.readUnlinked)
	scans := tableScans
	if c.Archive != "" {
		archived, err := c.archiveScans(ctx, tx)
		if err != nil {
			return err
		}
		scans = slices.Concat(scans, archived)
	}
	for _, scan := range scans {
		for _, shard := range c.shards {
			n, err := pg.PagesIn(ctx, tx, cmp.Or(scan.table, scan.kind.Table()), shard)
			if err != nil {
				return err
			}
			for first := int64(0); first < n; first += pages {
				c.parts = append(c.parts, func(ctx context.Context, tx *sqlx.Tx, out sink) error {
					return scan.read(ctx, tx, shard, first, out)
				})
			}
		}
	}
	return nil
}

// archiveScans are the scans of those tables of the archive that there are.
func (c *comparison) archiveScans(ctx context.Context, tx *sqlx.Tx) (scans []tableScan, err error) {
	for _, scan := range tableScans {
		table := pq.QuoteIdentifier(c.Archive) + "." + scan.kind.Table()
		var there bool
		if err := tx.GetContext(ctx, &there, `SELECT to_regclass($1) IS NOT NULL`, table); err != nil {
			return nil, fmt.Errorf("look for the archive: %w", err)
		}
		if !there || scan.kind == chain.Balance || scan.kind == chain.Wait {
			continue
		}
		follows := scan.row
		scan.table, scan.from = table, table+" t"
		scan.row = func(r *row, out sink) {
			c.archived.Add(1)
			follows(r, out)
		}
		scans = append(scans, scan)
	}
	if len(scans) == 0 {
		return nil, fmt.Errorf("the archive, schema %q, has no table of the ledger", c.Archive)
	}
	return scans, nil
}

// run does all parts. Each transaction has a sink of its own.
func (c *comparison) run(ctx context.Context, sinkOf func(worker int) sink) error {
	var next, done atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for worker, tx := range c.txs {
		out := sinkOf(worker)
		group.Go(func() error {
			for n := next.Add(1); n <= int64(len(c.parts)) && ctx.Err() == nil; n = next.Add(1) {
				if err := c.parts[n-1](ctx, tx, out); err != nil {
					return err
				}
				if c.Progress != nil {
					c.Progress(int(done.Add(1)), len(c.parts))
				}
			}
			return ctx.Err()
		})
	}
	return group.Wait()
}

// readLinks reads the links that follow the one with the number after.
func (c *comparison) readLinks(ctx context.Context, tx *sqlx.Tx, after int64, out sink) error {
	lower, upper := after, min(after+links, c.last)
	if after == 0 {
		lower = math.MinInt64
	}
	var previous []byte
	if err := tx.GetContext(ctx, &previous, `SELECT hash FROM chain WHERE number = $1`, after); err != nil &&
		!errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("read the chain: %w", err)
	}
	rows, err := tx.QueryContext(ctx, `
		SELECT number, timestamptz_send(at), sealing, items, hash FROM chain
		WHERE number > $1 AND number <= $2 ORDER BY number`, lower, upper)
	if err != nil {
		return fmt.Errorf("read the chain: %w", err)
	}
	defer rows.Close()
	known := after == 0 || previous != nil // whether previous is the hash of the link before
	expected := after + 1
	for ; rows.Next(); expected++ {
		var (
			link     chain.Link
			at, hash []byte
		)
		if err := rows.Scan(&link.Number, &at, &link.Sealing, &link.Items, &hash); err != nil {
			return fmt.Errorf("read the chain: %w", err)
		}
		link.At = chain.Time(integer(at))
		for ; expected < link.Number; expected++ {
			known = false
			out.wrong(linkDifference(expected, Missing))
		}
		if sum := link.Hash(previous); link.Number < 1 || known && string(sum[:]) != string(hash) {
			out.wrong(linkDifference(link.Number, "has not the hash of its content and the link before"))
		}
		if link.Sealing > c.Sealings {
			out.wrong(linkDifference(link.Number, fmt.Sprintf("is of sealing %d of older rows", link.Sealing)))
		}
		if err := readItems(link, out); err != nil {
			out.wrong(linkDifference(link.Number, "cannot be read: "+err.Error()))
		}
		previous, known = hash, true
	}
	for ; expected <= upper; expected++ {
		out.wrong(linkDifference(expected, Missing))
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read the chain: %w", err)
	}
	return nil
}

func linkDifference(number int64, what string) Difference {
	return Difference{Table: "chain", ID: strconv.FormatInt(number, 10), What: what, Link: number}
}

func readItems(link chain.Link, out sink) error {
	out.link(link)
	return chain.Items(link.Items, func(i chain.Item) error {
		out.add(i)
		return nil
	})
}

// readUnlinked reads what is not linked yet.
func (c *comparison) readUnlinked(ctx context.Context, tx *sqlx.Tx, out sink) error {
	// Its parameter has the statement prepared: then bytea comes in binary, not as hexadecimal digits.
	rows, err := tx.QueryContext(ctx, `SELECT timestamptz_send(at), items FROM chain_unlinked WHERE $1`, true)
	if err != nil {
		return fmt.Errorf("read what is not linked: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var at, items []byte
		if err := rows.Scan(&at, &items); err != nil {
			return fmt.Errorf("read what is not linked: %w", err)
		}
		link := chain.Link{Number: c.last + 1, Items: chain.AppendBatch(nil, chain.Time(integer(at)), items)}
		if err := readItems(link, out); err != nil {
			out.wrong(Difference{Table: "chain_unlinked", ID: "at " + chain.Time(integer(at)).Time().Format(contract.TimeFormat),
				What: "cannot be read: " + err.Error(), Link: link.Number})
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read what is not linked: %w", err)
	}
	return nil
}

// checkHeads compares the chain with what was published.
func (c *comparison) checkHeads(ctx context.Context, result *Verification) error {
	for _, head := range c.Heads {
		var hash []byte
		err := c.txs[0].GetContext(ctx, &hash, `SELECT hash FROM chain WHERE number = $1`, head.Number)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("read the chain: %w", err)
		}
		switch {
		case err != nil:
			result.Differences = append(result.Differences, linkDifference(head.Number, "is missing, and was published"))
		case hex.EncodeToString(hash) != head.Hash:
			result.Differences = append(result.Differences,
				linkDifference(head.Number, "has another hash than the one that was published"))
		}
	}
	return nil
}

// counter is the sink that finds out whether there are differences.
type counter struct {
	sums        *chain.Sums
	rows, items int64
	found       []Difference
	sealings    map[int64]Sealing
	sealing     int64 // of the link whose items are added
}

func (c *counter) link(l chain.Link) {
	c.sealing = l.Sealing
	if at := l.At.Time(); l.Sealing != 0 {
		s, ok := c.sealings[l.Sealing]
		if !ok || at.Before(s.At) {
			s.Number, s.At = l.Sealing, at
		}
		c.sealings[l.Sealing] = s
	}
}

func (c *counter) add(i chain.Item) {
	c.sums.Add(i)
	if i.Kind == chain.Balance || i.Kind == chain.Wait {
		return
	}
	c.items++
	if c.sealing != 0 {
		s := c.sealings[c.sealing]
		s.Items++
		c.sealings[c.sealing] = s
	}
}

func (c *counter) remove(i chain.Item, _ func() string) {
	i.Gone = true
	c.sums.Add(i)
	c.rows++
}

// maxFound is how many differences are kept, of those that need no search.
const maxFound = 1000

func (c *counter) wrong(d Difference) {
	if len(c.found) < maxFound {
		c.found = append(c.found, d)
	}
}
