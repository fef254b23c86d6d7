package watch

import (
	"context"
	"log/slog"
	"strings"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/postgres"
)

const (
	separator = " "
	// maxAnnounced is how many IDs go into one notification, of which PostgreSQL allows less than 8,000 bytes.
	maxAnnounced = 200
)

// Announcements are what a transaction notifies the channel of a Listen of, so that every process hears that these rows have
// changed once it is committed. Transactions that notify commit one after another: let one carry many changes.
func Announcements(ids []uuid.UUID) (texts []string) {
	for len(ids) > 0 {
		part := ids[:min(len(ids), maxAnnounced)]
		ids = ids[len(part):]
		words := make([]string, len(part))
		for i, id := range part {
			words[i] = id.String()
		}
		texts = append(texts, strings.Join(words, separator))
	}
	return texts
}

// Listen is the feed of the announcements on a channel of a database.
func Listen(cfg postgres.Config, channel string, log *slog.Logger) Feed {
	return func(ctx context.Context, heard func([]uuid.UUID), listening func(bool)) error {
		return postgres.Listen(ctx, cfg, channel, log, func(text string) { heard(parse(text)) }, listening)
	}
}

// parse leaves out what is no ID: anybody who may connect to the database may notify.
func parse(text string) []uuid.UUID {
	words := strings.Split(text, separator)
	ids := make([]uuid.UUID, 0, len(words))
	for _, word := range words {
		if id, err := uuid.Parse(word); err == nil {
			ids = append(ids, id)
		}
	}
	return ids
}
