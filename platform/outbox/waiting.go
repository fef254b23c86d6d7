package outbox

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/stage"
)

// Unavailable is the error of Publish for a message whose part of its topic takes none for now, while others may.
type Unavailable struct {
	// The part is the keys that contract.Partition gives this partition of so many; 0 of 1 is the whole topic.
	Partitions, Partition int
	Lost                  bool // the topic does not exist, or we may not write to it
	Err                   error
}

func (e *Unavailable) Error() string { return e.Err.Error() }
func (e *Unavailable) Unwrap() error { return e.Err }

const (
	// lostAfter is how long a topic is tried that does not exist or is forbidden, before its messages go to another.
	lostAfter = time.Minute
	// lostBackoff is how often such a topic is tried from then on.
	lostBackoff = 30 * time.Second

	// catchUp bounds the messages that are read at a time of parts that take messages again. It is more than can come in meanwhile,
	// so that a part does catch up.
	catchUp = 2 * batchSize

	// maxFlights bounds the attempts that are under way at a time.
	maxFlights = 64
)

// part is a part of a topic.
type part struct {
	Topic      string `db:"topic"`
	Partitions int    `db:"partitions"`
	Partition  int    `db:"partition"`
}

func (p part) has(m Message) bool {
	return p.Topic == m.Topic && contract.Partition(m.Key, p.Partitions) == p.Partition
}

// waiting is a part of a topic that has messages in outbox_waiting. Its later messages follow them there.
//
// Parts of a topic overlap when its number of partitions has changed, or all of it was away. A key's messages in a smaller part are
// then before those in a larger one, which are before those in the outbox: what comes from the outbox goes to the largest part, what
// comes from a part and cannot be published goes to a smaller one.
type waiting struct {
	part
	lost     bool
	since    time.Time // it was lost
	failures int       // in a row
	due      time.Time // of the next attempt
	flying   bool      // an attempt is under way
	busy     bool      // one has ended, and what became of its row is not stored yet
	open     bool      // it takes messages again
	all      bool      // everything that it has was read in this step
}

// instead returns the topic to which the part's messages go, which is mostly its own.
func (w *waiting) instead(r *Relay, now time.Time) string {
	if w.lost && !now.Before(w.since.Add(lostAfter)) && r.fallback != nil {
		return cmp.Or(r.fallback(w.Topic), w.Topic)
	}
	return w.Topic
}

// waits are the waiting parts by their topics, larger ones first.
type waits map[string][]*waiting

// of returns the part in which a message of the outbox has to wait, if any: those of which everything is read are no obstacle.
func (ws waits) of(m Message) *waiting {
	return ws.find(m, func(w *waiting) bool { return !w.all })
}

func (ws waits) find(m Message, which func(*waiting) bool) *waiting {
	for _, w := range ws[m.Topic] {
		if which(w) && w.has(m) {
			return w
		}
	}
	return nil
}

// add returns the part, which it adds if it is not there.
func (ws waits) add(p part) (w *waiting, added bool) {
	list := ws[p.Topic]
	if i := slices.IndexFunc(list, func(w *waiting) bool { return w.part == p }); i >= 0 {
		return list[i], false
	}
	w = &waiting{part: p}
	ws[p.Topic] = append(list, w)
	slices.SortFunc(ws[p.Topic], func(a, b *waiting) int { return cmp.Compare(a.Partitions, b.Partitions) })
	return w, true
}

func (ws waits) remove(w *waiting) {
	ws[w.Topic] = slices.DeleteFunc(ws[w.Topic], func(other *waiting) bool { return other == w })
	if len(ws[w.Topic]) == 0 {
		delete(ws, w.Topic)
	}
}

// each calls do for every part.
func (ws waits) each(do func(*waiting)) {
	for _, list := range ws {
		for _, w := range slices.Clone(list) {
			do(w)
		}
	}
}

// loadWaits finds the parts that wait, without reading what they have.
func loadWaits(ctx context.Context, from sqlx.QueryerContext) (waits, error) {
	var parts []part
	if err := sqlx.SelectContext(ctx, from, &parts, `
		WITH RECURSIVE parts AS (
			(SELECT topic, partitions, partition FROM outbox_waiting ORDER BY topic, partitions, partition LIMIT 1)
			UNION ALL
			SELECT next.* FROM parts p CROSS JOIN LATERAL (
				SELECT topic, partitions, partition FROM outbox_waiting w
				WHERE (w.topic, w.partitions, w.partition) > (p.topic, p.partitions, p.partition)
				ORDER BY topic, partitions, partition LIMIT 1
			) next
		)
		SELECT * FROM parts`); err != nil {
		return nil, fmt.Errorf("outbox: find what waits: %w", err)
	}
	ws := waits{}
	for _, p := range parts {
		ws.add(p)
	}
	return ws, nil
}

// fail notes that a part takes nothing for now.
func (l *leader) fail(p part, reason *Unavailable, failed map[*waiting]bool) {
	w, added := l.waits.add(p)
	if added {
		l.log.Warn("outbox messages wait, as a part of their topic takes none; the others go on",
			"topic", p.Topic, "partition", p.Partition, "partitions", p.Partitions, "error", reason.Err)
	}
	if failed[w] {
		return
	}
	failed[w] = true
	if reason.Lost && !w.lost {
		w.since = time.Now()
	}
	w.open, w.lost, w.all = false, reason.Lost, false
	w.backOff(l.Relay)
}

func (w *waiting) backOff(r *Relay) {
	now := time.Now()
	w.failures++
	pause := stage.Backoff(w.failures)
	if w.instead(r, now) != w.Topic {
		pause = lostBackoff
	}
	w.due = now.Add(pause)
}

// flight is an attempt to publish the first row of a part, beside everything else: it may take as long as it likes.
type flight struct {
	*waiting
	rows    []openRow // one
	results []error
}

// launch takes the rows that are attempts out of rows, and begins these.
func (l *leader) launch(ctx context.Context, rows []openRow) []openRow {
	return slices.DeleteFunc(rows, func(row openRow) bool {
		w := row.from
		if w == nil || w.open || row.instead {
			return false
		}
		messages := toSend([]openRow{row})
		if len(messages) == 0 {
			return false
		}
		w.flying = true
		l.flying++
		l.flights.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, publishTimeout)
			defer cancel()
			l.landed <- flight{w, []openRow{row}, l.publisher.Retry(ctx, messages)}
			l.Wake()
		})
		return true
	})
}

// land takes up what became of attempts that have ended, and returns their rows.
func (l *leader) land() (rows []openRow) {
	for {
		select {
		case f := <-l.landed:
			failed := map[*waiting]bool{}
			l.settle(f.rows, f.results, failed)
			l.place(f.rows)
			f.flying, f.busy = false, true
			for _, m := range f.rows[0].open {
				if m.to != nil {
					m.to.busy = true
				}
			}
			rows = append(rows, f.rows...)
			l.flying--
			switch {
			case failed[f.waiting]:
			case f.rows[0].stuck() != nil:
				f.backOff(l.Relay)
			default:
				f.open, f.lost, f.failures = true, false, 0
			}
		default:
			return rows
		}
	}
}

// hold marks what must not be published now: what has to wait in a part, and what is behind it.
func (l *leader) hold(rows []openRow) {
	if len(l.waits) == 0 {
		return
	}
	// A message that an operator has put back may be older than one of its key that waits.
	slices.SortStableFunc(rows, func(a, b openRow) int { return cmp.Compare(a.Seq, b.Seq) })
	held := map[messageKey]bool{}
	for _, row := range rows {
		for i := range row.open {
			m := &row.open[i]
			key := messageKey{m.Topic, m.Key}
			if m.to = l.placeOf(row, m.Message); m.to != row.from || held[key] {
				m.held, held[key] = true, true
			}
		}
	}
}

// place decides where those messages wait that are left.
func (l *leader) place(rows []openRow) {
	if len(l.waits) == 0 {
		return
	}
	for _, row := range rows {
		for i, m := range row.open {
			row.open[i].to = l.placeOf(row, m.Message)
		}
	}
}

// placeOf returns where a message of a row has to wait: nil is the outbox.
func (l *leader) placeOf(row openRow, m Message) *waiting {
	switch {
	case row.from == nil:
		return l.waits.of(m)
	case row.instead:
		return cmp.Or(l.waits.of(m), row.from)
	default:
		smaller := l.waits.find(m, func(w *waiting) bool {
			// What is an attempt must not run beside what is published of a smaller part.
			return w.Partitions > row.from.Partitions && !(w.all && row.from.open)
		})
		return cmp.Or(smaller, row.from)
	}
}

// close ends a step: parts of which everything is published, and to which nothing has come in this step, are forgotten.
func (l *leader) close(rows []openRow) {
	if len(l.waits) == 0 {
		return
	}
	used := map[*waiting]bool{}
	for _, row := range rows {
		for _, m := range row.open {
			used[m.to] = true
		}
	}
	l.waits.each(func(w *waiting) {
		if w.all && !used[w] && !w.lost {
			l.waits.remove(w)
			l.log.Info("outbox messages wait no more", "topic", w.Topic, "partition", w.Partition, "partitions", w.Partitions)
		}
		w.all, w.busy = false, false
	})
}
