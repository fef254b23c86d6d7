package watch

import (
	"context"
	"log/slog"
	"strconv"
	"strings"

	"github.com/google/uuid"

	pg "github.com/altyn-pay/altyn/platform/postgres"
)

const (
	separator = " "
	ofVersion = ":"
	// maxAnnounced is how many changes go into one notification. PostgreSQL allows less than 8,000 bytes; an ID has 36, a
	// version up to 19.
	maxAnnounced = 100
)

// Announcements returns the texts with which a transaction notifies a channel of changes, so that every process that
// listens on it hears of them after the commit. Transactions that notify commit one after another, so one should carry
// many changes.
func Announcements(changes []Change) (texts []string) {
	for len(changes) > 0 {
		part := changes[:min(len(changes), maxAnnounced)]
		changes = changes[len(part):]
		words := make([]string, len(part))
		for i, c := range part {
			words[i] = c.ID.String() + ofVersion + strconv.FormatInt(c.Version, 10)
		}
		texts = append(texts, strings.Join(words, separator))
	}
	return texts
}

// Listen returns the feed of the announcements on a channel of a database.
func Listen(cfg pg.Config, channel string, log *slog.Logger) Feed {
	return func(ctx context.Context, heard func([]Change), listening func(bool)) error {
		return pg.Listen(ctx, cfg, channel, log, func(text string) { heard(parse(text)) }, listening)
	}
}

// parse ignores what is not a change: anyone who may connect to the database may send notifications.
func parse(text string) []Change {
	words := strings.Split(text, separator)
	changes := make([]Change, 0, len(words))
	for _, word := range words {
		id, version, _ := strings.Cut(word, ofVersion)
		c := Change{}
		var errID, errVersion error
		c.ID, errID = uuid.Parse(id)
		c.Version, errVersion = strconv.ParseInt(version, 10, 64)
		if errID == nil && errVersion == nil {
			changes = append(changes, c)
		}
	}
	return changes
}
