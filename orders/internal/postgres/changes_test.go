package postgres_test

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/watch"
)

// Who saves orders need not think of telling of them, and tells of nothing that was not committed.
func TestEveryProcessHearsOfWhatIsSaved(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	heard, done := make(chan []watch.Change, 100), make(chan error, 1)
	listening := make(chan struct{}, 10)
	go func() {
		done <- watch.Listen(b.Config, postgres.Changes, slog.New(slog.DiscardHandler))(ctx,
			func(changes []watch.Change) { heard <- changes },
			func(now bool) {
				if now {
					listening <- struct{}{}
				}
			})
	}()
	<-listening
	one, two, three := placement(t, nil), placement(t, nil), placement(t, nil)
	place(t, b.store, one, two, three)
	save := func(result error, placements ...postgres.Placement) {
		t.Helper()
		var orders []order.Order
		for _, p := range placements {
			o := p.Order
			o.Version++
			orders = append(orders, o)
		}
		if err := b.store.InTx(ctx, func(tx *sqlx.Tx) error {
			if err := b.store.Save(ctx, tx, orders, nil); err != nil {
				return err
			}
			return result
		}); !errors.Is(err, result) {
			t.Fatal(err)
		}
	}
	save(errors.New("rolled back"), three)
	save(nil)
	save(nil, one, two)
	select {
	case changes := <-heard:
		want := []watch.Change{{ID: one.Order.ID, Version: one.Order.Version + 1},
			{ID: two.Order.ID, Version: two.Order.Version + 1}}
		if !slices.Equal(changes, want) {
			t.Errorf("heard %v, want %v", changes, want)
		}
	case <-ctx.Done():
		t.Error("nothing was heard")
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestNewer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one, two := placement(t, nil), placement(t, nil)
	place(t, b.store, one, two)
	ids := []uuid.UUID{two.Order.ID, uuid.New(), one.Order.ID}
	for _, test := range []struct {
		seen []int64
		want []uuid.UUID
	}{
		{[]int64{0, 0, 0}, []uuid.UUID{one.Order.ID, two.Order.ID}},
		{[]int64{math.MinInt64, math.MinInt64, math.MaxInt64}, []uuid.UUID{two.Order.ID}},
		{[]int64{1, 1, 1}, nil},
	} {
		newer, err := b.store.Newer(t.Context(), ids, test.seen)
		if err != nil || len(newer) != len(test.want) {
			t.Errorf("%v: %v, %v", test.seen, newer, err)
		}
		for _, id := range test.want {
			if newer[id].ID != id {
				t.Errorf("%v: %v", test.seen, newer)
			}
		}
	}
}
