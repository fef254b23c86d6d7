package watch_test

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/google/uuid"

	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/watch"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

func TestWhatIsAnnouncedIsHeard(t *testing.T) {
	t.Parallel()
	db := postgrestest.Database(t, "orders")
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	listening, heard, done := make(chan struct{}, 10), make(chan []watch.Change, 100), make(chan error, 1)
	go func() {
		done <- watch.Listen(db.Config, "rows", quiet)(ctx,
			func(changes []watch.Change) { heard <- changes },
			func(now bool) {
				if now {
					listening <- struct{}{}
				}
			})
	}()
	<-listening
	missing := map[watch.Change]bool{}
	var changes []watch.Change
	for i := range 1001 {
		change := watch.Change{ID: uuid.New(), Version: math.MaxInt64 - int64(i)}
		changes, missing[change] = append(changes, change), true
	}
	if texts := watch.Announcements(nil); len(texts) > 0 {
		t.Errorf("nothing has changed, and what is announced is %q", texts)
	}
	texts := append(watch.Announcements(changes), "", "no ID", "00000000:1", uuid.NewString(), uuid.NewString()+":one")
	if _, err := db.Service.ExecContext(ctx, `SELECT pg_notify('rows', text) FROM unnest($1::text[]) AS text`,
		pg.Texts(texts)); err != nil {
		t.Fatal(err)
	}
	for len(missing) > 0 {
		select {
		case changes := <-heard:
			for _, change := range changes {
				if !missing[change] {
					t.Errorf("heard %v, which was not announced", change)
				}
				delete(missing, change)
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
