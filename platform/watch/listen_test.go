package watch_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/postgrestest"
	"github.com/altyn-pay/altyn/platform/watch"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

func TestWhatIsAnnouncedIsHeard(t *testing.T) {
	t.Parallel()
	db := postgrestest.Database(t, "orders")
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	listening, heard, done := make(chan struct{}, 10), make(chan []uuid.UUID, 100), make(chan error, 1)
	go func() {
		done <- watch.Listen(db.Config, "rows", quiet)(ctx,
			func(ids []uuid.UUID) { heard <- ids },
			func(now bool) {
				if now {
					listening <- struct{}{}
				}
			})
	}()
	<-listening
	missing := map[uuid.UUID]bool{}
	var ids []uuid.UUID
	for range 1001 {
		id := uuid.New()
		ids, missing[id] = append(ids, id), true
	}
	if texts := watch.Announcements(nil); len(texts) > 0 {
		t.Errorf("nothing has changed, and what is announced is %q", texts)
	}
	texts := append(watch.Announcements(ids), "", "no ID", "00000000")
	if _, err := db.Service.ExecContext(ctx, `SELECT pg_notify('rows', text) FROM unnest($1::text[]) AS text`, postgres.Texts(texts)); err != nil {
		t.Fatal(err)
	}
	for len(missing) > 0 {
		select {
		case ids := <-heard:
			for _, id := range ids {
				if !missing[id] {
					t.Errorf("heard %s, which was not announced", id)
				}
				delete(missing, id)
			}
		case <-ctx.Done():
			t.Fatalf("%d were not heard", len(missing))
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
