// Package idempotency keeps which request a client's key stands for, where the key is not simply the ID of one
// record: the key of a batch, and that of a new account whose ID the client chooses. Such a key is claimed for its
// request before the request takes effect. From then on it stands for no other one, whatever happens in between: of
// two different requests at the same instant one gets the key, and a request that a crash has cut off is finished
// when it comes again. It is not part of inbox, because orders has such keys and no inbox.
package idempotency

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	pg "github.com/altyn-pay/altyn/platform/postgres"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations creates the table of keys.
func Migrations() pg.Migrations { return pg.Embedded("idempotency", files) }

// ErrReused refuses a request whose key came with another request before.
var ErrReused = errors.New("the key came with another request before")

// Claim asks for a key to stand for a request.
type Claim struct {
	Key         uuid.UUID // derived from the client's key and its scope
	Fingerprint uuid.UUID // of the request

	// Makes is what the request makes: the fingerprints by ID. Others are the IDs of what other requests with this key may
	// have made. Together they reveal a key that was used with a version of Altyn that kept no keys, and made all of a
	// request or nothing.
	Makes  map[uuid.UUID]uuid.UUID
	Others []uuid.UUID
}

// IDs are those of whatever may have been made under the key.
func (c Claim) IDs() []uuid.UUID {
	return slices.AppendSeq(slices.Clone(c.Others), maps.Keys(c.Makes))
}

// Outcome is what became of a claim.
type Outcome struct {
	Repeated bool  // the key stood for this request before
	Err      error // ErrReused, where it stands for another one
}

// Make makes claims. made finds what exists of IDs, with its fingerprint. Once Make has returned without an error, each
// key that is not ErrReused stands for its request for good. After an error it may, and the claims may be made again.
func Make(ctx context.Context, db *sqlx.DB, claims []Claim,
	made func(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]uuid.UUID, error)) ([]Outcome, error) {
	if len(claims) == 0 {
		return nil, nil
	}
	keys := make([]uuid.UUID, len(claims))
	for i, c := range claims {
		keys[i] = c.Key
	}
	stored, err := fingerprints(ctx, db, keys)
	if err != nil {
		return nil, err
	}
	found, err := foundBefore(ctx, claims, stored, made)
	if err != nil {
		return nil, err
	}
	outcomes := make([]Outcome, len(claims))
	free := make(map[uuid.UUID]uuid.UUID)
	for i, c := range claims {
		if _, ok := stored[c.Key]; ok {
			continue
		}
		if outcomes[i] = c.compare(found); outcomes[i].Err == nil {
			if _, twice := free[c.Key]; !twice {
				free[c.Key] = c.Fingerprint
			}
		}
	}
	fresh, err := insert(ctx, db, free)
	if err != nil {
		return nil, err
	}
	maps.Copy(stored, fresh)
	if len(fresh) < len(free) { // others were faster
		var lost map[uuid.UUID]uuid.UUID
		if lost, err = fingerprints(ctx, db, slices.Collect(maps.Keys(free))); err != nil {
			return nil, err
		}
		maps.Copy(stored, lost)
	}
	for i, c := range claims {
		switch _, first := fresh[c.Key]; {
		case outcomes[i].Err != nil:
		case stored[c.Key] != c.Fingerprint:
			outcomes[i] = Outcome{Err: ErrReused}
		case first:
			delete(fresh, c.Key)
		default:
			outcomes[i].Repeated = true
		}
	}
	return outcomes, nil
}

// foundBefore finds what requests have made, as far as it exists, under keys that are not stored.
func foundBefore(ctx context.Context, claims []Claim, stored map[uuid.UUID]uuid.UUID,
	made func(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]uuid.UUID, error)) (map[uuid.UUID]uuid.UUID, error) {
	var ids []uuid.UUID
	for _, c := range claims {
		if _, ok := stored[c.Key]; ok {
			continue
		}
		ids = append(ids, c.IDs()...)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	return made(ctx, ids)
}

// compare tells from what was found whether the claim's request came before, or another one with its key.
func (c Claim) compare(found map[uuid.UUID]uuid.UUID) Outcome {
	same, others := 0, 0
	for id, fingerprint := range c.Makes {
		if stored, ok := found[id]; ok && stored == fingerprint {
			same++
		} else if ok {
			others++
		}
	}
	for _, id := range c.Others {
		_, ours := c.Makes[id]
		if _, ok := found[id]; ok && !ours {
			others++
		}
	}
	if others > 0 || same > 0 && same < len(c.Makes) {
		return Outcome{Err: ErrReused}
	}
	return Outcome{Repeated: same > 0}
}

// fingerprints reads the fingerprint of the request that each key stands for, if it stands for one.
func fingerprints(ctx context.Context, db *sqlx.DB, keys []uuid.UUID) (map[uuid.UUID]uuid.UUID, error) {
	var rows []struct {
		ID          uuid.UUID `db:"id"`
		Fingerprint uuid.UUID `db:"fingerprint"`
	}
	const query = `SELECT id, fingerprint FROM request_keys WHERE id = ANY($1::uuid[])`
	if err := db.SelectContext(ctx, &rows, query, pg.UUIDs(keys)); err != nil {
		return nil, fmt.Errorf("read request keys: %w", err)
	}
	stored := make(map[uuid.UUID]uuid.UUID, len(rows))
	for _, row := range rows {
		stored[row.ID] = row.Fingerprint
	}
	return stored, nil
}

// insert stores keys, and returns those that were free.
func insert(ctx context.Context, db *sqlx.DB, keys map[uuid.UUID]uuid.UUID) (map[uuid.UUID]uuid.UUID, error) {
	fresh := make(map[uuid.UUID]uuid.UUID, len(keys))
	if len(keys) == 0 {
		return fresh, nil
	}
	// In one order, against deadlocks.
	ids := slices.SortedFunc(maps.Keys(keys), func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	prints := make(pg.UUIDs, len(ids))
	for i, id := range ids {
		prints[i] = keys[id]
	}
	var inserted []uuid.UUID
	tried := false // without knowing whether it was committed
	if err := pg.UntilKnown(ctx, func() error {
		return pg.Retry(ctx, func() error {
			inserted = nil
			err := pg.InStatement(ctx, db, func(conn *sqlx.Conn) error {
				return conn.SelectContext(ctx, &inserted, `
					INSERT INTO request_keys (id, fingerprint) SELECT * FROM unnest($1::uuid[], $2::uuid[])
					ON CONFLICT (id) DO NOTHING RETURNING id`, pg.UUIDs(ids), prints)
			})
			tried = tried || pg.IsOutcomeUnknown(err)
			return err
		})
	}); err != nil {
		return nil, fmt.Errorf("store request keys: %w", err)
	}
	for _, id := range inserted {
		fresh[id] = keys[id]
	}
	if tried && len(fresh) < len(keys) { // the same request's key is that of the first try
		stored, err := fingerprints(ctx, db, ids)
		if err != nil {
			return nil, err
		}
		for id, fingerprint := range stored {
			if keys[id] == fingerprint {
				fresh[id] = fingerprint
			}
		}
	}
	return fresh, nil
}

// Forget makes keys stand for no request any more: from then on each request with one of them is ErrReused. What a
// fingerprint was made of cannot be guessed then. Only the owner of the table can do that.
func Forget(ctx context.Context, tx *sqlx.Tx, keys []uuid.UUID) (int64, error) {
	result, err := tx.ExecContext(ctx, `
		UPDATE request_keys SET fingerprint = $2 WHERE id = ANY($1::uuid[]) AND fingerprint <> $2`, pg.UUIDs(keys), uuid.Nil)
	if err != nil {
		return 0, fmt.Errorf("forget the requests of keys: %w", err)
	}
	return result.RowsAffected()
}

// maxOthers bounds the IDs that Others makes.
const maxOthers = 1000

// Others returns the IDs of what other batches with the same key may have made for these accounts; id is the ID of the
// item with an index. For a single account these are the first 1,000 items, for several accounts as many of each as
// make 1,000 together.
func Others(accounts []uuid.UUID, id func(account uuid.UUID, index int) uuid.UUID) []uuid.UUID {
	accounts = slices.Clone(accounts)
	slices.SortFunc(accounts, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	accounts = slices.Compact(accounts)
	var ids []uuid.UUID
	for _, account := range accounts {
		for i := range maxOthers / len(accounts) {
			ids = append(ids, id(account, i))
		}
	}
	return ids
}
