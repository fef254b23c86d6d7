package idempotency_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/idempotency"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

type prints map[uuid.UUID]uuid.UUID

// claim makes claims over what exists of requests.
func claim(t *testing.T, db postgrestest.DB, exists prints, claims ...idempotency.Claim) []idempotency.Outcome {
	t.Helper()
	out, err := idempotency.Make(t.Context(), db.Service, claims,
		func(_ context.Context, ids []uuid.UUID) (map[uuid.UUID]uuid.UUID, error) {
			found := prints{}
			for _, id := range ids {
				if fingerprint, ok := exists[id]; ok {
					found[id] = fingerprint
				}
			}
			return found, nil
		})
	if err != nil || len(out) != len(claims) {
		t.Fatalf("%v: %d outcomes of %d claims", err, len(out), len(claims))
	}
	return out
}

var (
	free     = idempotency.Outcome{}
	repeated = idempotency.Outcome{Repeated: true}
	reused   = idempotency.Outcome{Err: idempotency.ErrReused}
)

func TestAKeyStandsForOneRequest(t *testing.T) {
	t.Parallel()
	db := postgrestest.Database(t, "keys", idempotency.Migrations())
	key, a, b := uuid.New(), uuid.New(), uuid.New()
	for i, step := range []struct {
		fingerprint uuid.UUID
		want        idempotency.Outcome
	}{{a, free}, {a, repeated}, {b, reused}, {a, repeated}} {
		if got := claim(t, db, nil, idempotency.Claim{Key: key, Fingerprint: step.fingerprint}); got[0] != step.want {
			t.Errorf("step %d: %+v", i, got)
		}
	}
	// Many at once, one key twice, and one that stands for a request already: the first one gets it.
	second := uuid.New()
	for i, want := range claim(t, db, nil, idempotency.Claim{Key: second, Fingerprint: a},
		idempotency.Claim{Key: second, Fingerprint: b},
		idempotency.Claim{Key: key, Fingerprint: a}, idempotency.Claim{Key: second, Fingerprint: a}) {
		if want != []idempotency.Outcome{free, reused, repeated, repeated}[i] {
			t.Errorf("claim %d of many: %+v", i, want)
		}
	}
	if out := claim(t, db, nil); len(out) != 0 {
		t.Errorf("no claims: %v", out)
	}
}

// Of different requests at the same instant, one gets the key, and its repetitions know it.
func TestOneOfManyGetsTheKey(t *testing.T) {
	t.Parallel()
	db := postgrestest.Database(t, "keys", idempotency.Migrations())
	for range 20 {
		keys := []uuid.UUID{uuid.New(), uuid.New()}
		var wait sync.WaitGroup
		var frees, mine [2]atomic.Int32
		for n := range 8 {
			wait.Go(func() {
				fingerprint := uuid.NewSHA1(keys[0], []byte{byte(n % 4)})
				order := []int{n % 2, 1 - n%2}
				claims := []idempotency.Claim{{Key: keys[order[0]], Fingerprint: fingerprint},
					{Key: keys[order[1]], Fingerprint: fingerprint}}
				out, err := idempotency.Make(context.Background(), db.Service, claims, nil)
				if err != nil {
					t.Error(err)
					return
				}
				for i, o := range out {
					if o == free {
						frees[order[i]].Add(1)
					}
					if o.Err == nil {
						mine[order[i]].Add(1)
					}
				}
			})
		}
		wait.Wait()
		for i := range keys {
			if frees[i].Load() != 1 || mine[i].Load() != 2 {
				t.Errorf("key %d was free %d times and stands for %d of the 8 requests", i, frees[i].Load(), mine[i].Load())
			}
		}
	}
}

// What a version without keys has made tells whether a key came before.
func TestKeysOfBefore(t *testing.T) {
	t.Parallel()
	db := postgrestest.Database(t, "keys", idempotency.Migrations())
	x, y, other, a, b := uuid.New(), uuid.New(), uuid.New(), uuid.New(), uuid.New()
	for name, test := range map[string]struct {
		exists prints
		makes  prints
		want   idempotency.Outcome
	}{
		"nothing":                {prints{}, prints{x: a}, free},
		"all of it":              {prints{x: a, y: b}, prints{x: a, y: b}, repeated},
		"an item less":           {prints{x: a}, prints{x: a, y: b}, reused},
		"another request's item": {prints{x: b}, prints{x: a}, reused},
		"an item more":           {prints{x: a, other: b}, prints{x: a}, reused},
		"items elsewhere":        {prints{other: a}, prints{x: a}, reused},
		"no valid item":          {prints{other: a}, nil, reused},
		"never any":              {prints{}, nil, free},
	} {
		c := idempotency.Claim{Key: uuid.New(), Fingerprint: uuid.New(), Makes: test.makes, Others: []uuid.UUID{x, y, other}}
		if got := claim(t, db, test.exists, c); got[0] != test.want {
			t.Errorf("%s: %+v", name, got[0])
		}
		// What was refused has not taken the key.
		want := repeated
		if test.want == reused {
			want = free
		}
		if got := claim(t, db, nil, c); got[0] != want {
			t.Errorf("%s, again: %+v", name, got[0])
		}
	}
}

// The service may not change what a key stands for.
func TestKeysAreForever(t *testing.T) {
	t.Parallel()
	db := postgrestest.Database(t, "keys", idempotency.Migrations())
	claim(t, db, nil, idempotency.Claim{Key: uuid.New(), Fingerprint: uuid.New()})
	for _, statement := range []string{`DELETE FROM request_keys`, `UPDATE request_keys SET fingerprint = id`} {
		if _, err := db.Service.Exec(statement); err == nil {
			t.Errorf("%s went through", statement)
		}
	}
	if _, err := idempotency.Make(t.Context(), db.Service,
		[]idempotency.Claim{{Key: uuid.New(), Others: []uuid.UUID{uuid.New()}}},
		func(context.Context, []uuid.UUID) (map[uuid.UUID]uuid.UUID, error) { return nil, errors.New("away") }); err == nil {
		t.Error("a claim was made though nobody could tell what exists")
	}
}

func TestOthers(t *testing.T) {
	name := func(account uuid.UUID, i int) uuid.UUID { return uuid.NewSHA1(account, []byte{byte(i), byte(i >> 8)}) }
	one, two := uuid.New(), uuid.New()
	if got := idempotency.Others([]uuid.UUID{one, one}, name); len(got) != 1000 || got[999] != name(one, 999) {
		t.Errorf("%d of one account", len(got))
	}
	if got := idempotency.Others([]uuid.UUID{one, two, one}, name); len(got) != 1000 {
		t.Errorf("%d of two accounts", len(got))
	}
	if got := idempotency.Others(nil, name); len(got) != 0 {
		t.Errorf("%d of none", len(got))
	}
}
