package outbox

import (
	"context"
	"slices"
)

// maxAttempts bounds the attempts that are under way at a time.
const maxAttempts = 64

// attempt is an attempt to publish the first row of a waiting part. It runs beside everything else, and may take as
// long as it likes.
type attempt struct {
	*waitingPart
	row     openRow
	results []error
}

// startAttempts takes the rows with which a part is to be tried out of rows, and starts the attempts.
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
