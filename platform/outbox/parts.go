package outbox

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/platform/contract"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/stage"
)

const (
	// lostAfter is how long a topic is tried that does not exist or is forbidden, before its messages go to another.
	lostAfter = time.Minute
	// lostBackoff is how often such a topic is tried from then on.
	lostBackoff = 30 * time.Second

	// catchUp bounds how many messages are read at a time from parts that are available again. It is more than can come in
	// meanwhile, so that a part does catch up.
	catchUp = 2 * batchSize
)

// part is a part of a topic.
type part struct {
	Topic      string `db:"topic" json:"topic"`
	Partitions int    `db:"partitions" json:"partitions"`
	Partition  int    `db:"partition" json:"partition"`
}

func (p part) has(m Message) bool {
	return p.Topic == m.Topic && contract.Partition(m.Key, p.Partitions) == p.Partition
}

// waitingPart is a part of a topic that took no messages, and has them in outbox_waiting. Later messages of the part
// follow them there.
//
// Parts of a topic overlap when its number of partitions has changed, or when all of it was away. A key's messages in a
// smaller part come before those in a larger one, which come before those in the outbox. So a message of the outbox
// goes to the largest part, and a message of a part that cannot be published goes to a smaller one.
type waitingPart struct {
	part
	available bool // it takes messages again

	// While it is not available, one attempt at a time finds out whether it is again.
	attempting bool
	failures   int       // of attempts, in a row
	due        time.Time // the time of the next attempt

	lost      bool // the topic does not exist, or we may not write to it
	lostSince time.Time

	// Of the present step.
	unsaved bool // an attempt has ended, and what became of its row is not stored yet
	readAll bool // everything that waits was read
}

// target is the topic to which the part's messages go: its own, or the fallback for one that has been lost for long.
func (w *waitingPart) target(r *Relay, now time.Time) string {
	if w.lost && !now.Before(w.lostSince.Add(lostAfter)) && r.fallback != nil {
		return cmp.Or(r.fallback(w.Topic), w.Topic)
	}
	return w.Topic
}

// waitingParts are the waiting parts by their topics, larger ones first.
type waitingParts map[string][]*waitingPart

// of returns the part in which a message of the outbox has to wait, or nil. A part that was read to its end in this
// step is no obstacle.
func (ws waitingParts) of(m Message) *waitingPart {
	return ws.find(m, func(w *waitingPart) bool { return !w.readAll })
}

// find returns the largest part of a message for which the condition holds, or nil.
func (ws waitingParts) find(m Message, condition func(*waitingPart) bool) *waitingPart {
	for _, w := range ws[m.Topic] {
		if condition(w) && w.has(m) {
			return w
		}
	}
	return nil
}

// add returns the waiting part, which it adds if it is not there.
func (ws waitingParts) add(p part) (w *waitingPart, added bool) {
	list := ws[p.Topic]
	if i := slices.IndexFunc(list, func(w *waitingPart) bool { return w.part == p }); i >= 0 {
		return list[i], false
	}
	w = &waitingPart{part: p}
	ws[p.Topic] = append(list, w)
	slices.SortFunc(ws[p.Topic], func(a, b *waitingPart) int { return cmp.Compare(a.Partitions, b.Partitions) })
	return w, true
}

func (ws waitingParts) remove(w *waitingPart) {
	ws[w.Topic] = slices.DeleteFunc(ws[w.Topic], func(other *waitingPart) bool { return other == w })
	if len(ws[w.Topic]) == 0 {
		delete(ws, w.Topic)
	}
}

// each calls do for every part.
func (ws waitingParts) each(do func(*waitingPart)) {
	for _, list := range ws {
		for _, w := range slices.Clone(list) {
			do(w)
		}
	}
}

// loadParts finds the parts that wait, without reading what they have.
func loadParts(ctx context.Context, from sqlx.QueryerContext) (waitingParts, error) {
	var parts []part
	if err := sqlx.SelectContext(ctx, from, &parts, `
		WITH RECURSIVE parts AS (
			(SELECT topic, partitions, partition FROM outbox_waiting WHERE `+pg.InLanes("lane", "$1")+`
			ORDER BY topic, partitions, partition LIMIT 1)
			UNION ALL
			SELECT next.* FROM parts p CROSS JOIN LATERAL (
				SELECT topic, partitions, partition FROM outbox_waiting w
				WHERE (w.topic, w.partitions, w.partition) > (p.topic, p.partitions, p.partition)
					AND `+pg.InLanes("lane", "$1")+`
				ORDER BY topic, partitions, partition LIMIT 1
			) next
		)
		SELECT * FROM parts`, pg.AllLanes()); err != nil {
		return nil, fmt.Errorf("outbox: find what waits: %w", err)
	}
	ws := waitingParts{}
	for _, p := range parts {
		ws.add(p)
	}
	return ws, nil
}

// fail notes that a part takes nothing for now. failed has the parts for which this is noted in this step.
func (l *leader) fail(p part, reason *Unavailable, failed map[*waitingPart]bool) {
	w, added := l.waiting.add(p)
	if added {
		l.log.Warn("outbox messages wait, as a part of their topic takes none; the others go on",
			"topic", p.Topic, "partition", p.Partition, "partitions", p.Partitions, "error", reason.Err)
	}
	if failed[w] {
		return
	}
	failed[w] = true
	if reason.Lost && !w.lost {
		w.lostSince = time.Now()
	}
	w.available, w.readAll = false, false
	w.lost = reason.Lost
	w.backOff(l.Relay)
}

// backOff puts the next attempt off.
func (w *waitingPart) backOff(r *Relay) {
	now := time.Now()
	w.failures++
	pause := stage.Backoff(w.failures)
	if w.target(r, now) != w.Topic {
		pause = lostBackoff
	}
	w.due = now.Add(pause)
}

// hold marks the messages that must not be published in this step: those that have to wait in a part, and those behind
// them.
func (l *leader) hold(rows []openRow) {
	if len(l.waiting) == 0 {
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

// place decides where each message that was not published is to wait.
func (l *leader) place(rows []openRow) {
	if len(l.waiting) == 0 {
		return
	}
	for _, row := range rows {
		for i, m := range row.open {
			row.open[i].to = l.placeOf(row, m.Message)
		}
	}
}

// placeOf returns the part in which a message of a row has to wait, or nil for the outbox.
func (l *leader) placeOf(row openRow, m Message) *waitingPart {
	switch {
	case row.from == nil:
		return l.waiting.of(m)
	case row.rerouted:
		return cmp.Or(l.waiting.of(m), row.from)
	default:
		smaller := l.waiting.find(m, func(w *waitingPart) bool {
			// An attempt must not run beside the publication of a smaller part.
			return w.Partitions > row.from.Partitions && !(w.readAll && row.from.available)
		})
		return cmp.Or(smaller, row.from)
	}
}

// endStep forgets the parts that are published to their end and got no message in this step.
func (l *leader) endStep(rows []openRow) {
	if len(l.waiting) == 0 {
		return
	}
	used := map[*waitingPart]bool{}
	for _, row := range rows {
		for _, m := range row.open {
			used[m.to] = true
		}
	}
	l.waiting.each(func(w *waitingPart) {
		if w.readAll && !used[w] && !w.lost {
			l.waiting.remove(w)
			l.log.Info("outbox messages wait no more", "topic", w.Topic, "partition", w.Partition, "partitions", w.Partitions)
		}
		w.readAll, w.unsaved = false, false
	})
}

// maxAttempts bounds the attempts that are under way at a time.
const maxAttempts = 64

// attempt is an attempt to publish the first row of a waiting part. It runs beside everything else, and may take as
// long as it likes.
type attempt struct {
	*waitingPart
	row     openRow
	results []error
}

// startAttempts removes from rows those with which a part is to be tried, and starts the attempts.
func (l *leader) startAttempts(ctx context.Context, rows []openRow) []openRow {
	return slices.DeleteFunc(rows, func(row openRow) bool {
		w := row.from
		if w == nil || w.available || row.rerouted {
			return false
		}
		messages := toSend([]openRow{row})
		if len(messages) == 0 {
			return false
		}
		w.attempting = true
		l.running++
		l.attempts.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, publishTimeout)
			defer cancel()
			l.ended <- attempt{w, row, l.publisher.Retry(ctx, messages)}
			l.Wake()
		})
		return true
	})
}

// finishAttempts handles the results of the attempts that have ended, and returns their rows.
func (l *leader) finishAttempts() (rows []openRow) {
	for {
		select {
		case a := <-l.ended:
			rows = append(rows, l.finish(a))
		default:
			return rows
		}
	}
}

func (l *leader) finish(a attempt) openRow {
	l.running--
	rows := []openRow{a.row}
	failed := map[*waitingPart]bool{}
	l.takeResults(rows, a.results, failed)
	l.place(rows)
	row := rows[0]
	a.attempting, a.unsaved = false, true
	for _, m := range row.open {
		if m.to != nil {
			m.to.unsaved = true
		}
	}
	switch {
	case failed[a.waitingPart]:
	case row.stuck() != nil:
		a.backOff(l.Relay)
	default:
		a.available, a.lost = true, false
		a.failures = 0
	}
	return row
}
