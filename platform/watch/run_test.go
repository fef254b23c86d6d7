package watch_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/watch"
)

// table is a database of rows, and the feed of what others change in it. The clock is the test's own.
type table struct {
	*watch.Hub[row]
	heard     func([]watch.Change)
	listening func(bool)

	mu    sync.Mutex
	rows  map[uuid.UUID]int64
	reads [][]uuid.UUID
	err   error
	pause time.Duration // that a read takes
}

// follow runs a test on a hub that follows a table.
func follow(t *testing.T, test func(t *testing.T, table *table)) {
	synctest.Test(t, func(t *testing.T) {
		b := &table{rows: map[uuid.UUID]int64{}}
		b.Hub = watch.New(quiet, versionOf, b.load)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- b.Run(ctx, func(ctx context.Context, heard func([]watch.Change), listening func(bool)) error {
				b.heard, b.listening = heard, listening
				<-ctx.Done()
				return nil
			})
		}()
		synctest.Wait()
		b.listening(true)
		test(t, b)
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func (b *table) load(_ context.Context, ids []uuid.UUID, seen []int64) (map[uuid.UUID]row, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reads = append(b.reads, ids)
	<-time.After(b.pause)
	if b.err != nil {
		return nil, b.err
	}
	states := map[uuid.UUID]row{}
	for i, id := range ids {
		if version, ok := b.rows[id]; ok && version > seen[i] {
			states[id] = row{id, version}
		}
	}
	return states, nil
}

// change is what another process does.
func (b *table) change(version int64, ids ...uuid.UUID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range ids {
		b.rows[id] = version
	}
}

// hear tells the hub of a version of rows.
func (b *table) hear(version int64, ids ...uuid.UUID) {
	changes := make([]watch.Change, len(ids))
	for i, id := range ids {
		changes[i] = watch.Change{ID: id, Version: version}
	}
	b.heard(changes)
}

// taken returns what was read since it was last asked.
func (b *table) taken() [][]uuid.UUID {
	b.mu.Lock()
	defer b.mu.Unlock()
	reads := b.reads
	b.reads = nil
	return reads
}

// set makes reads fail, or take so long.
func (b *table) set(err error, pause time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err, b.pause = err, pause
}

// watch subscribes to new rows, of which the waiters know version 1.
func (b *table) watch(n int) (ids []uuid.UUID, watches []*watch.Watch[row]) {
	for range n {
		id := uuid.New()
		w := b.Subscribe(id)
		b.change(1, id)
		w.Seen(row{id, 1})
		ids, watches = append(ids, id), append(watches, w)
	}
	return ids, watches
}

// arrives tells how long it takes until a version comes.
func arrives(t *testing.T, w *watch.Watch[row], version int64) time.Duration {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, ok := w.Until(ctx, func(r row) bool { return r.version == version }); !ok {
		t.Errorf("version %d has not come", version)
	}
	return time.Since(began)
}

func TestWhatIsHeardIsReadAtOnce(t *testing.T) {
	follow(t, func(t *testing.T, b *table) {
		ids, watches := b.watch(2)
		b.change(2, ids...)
		b.hear(2, uuid.New(), ids[0], uuid.New(), ids[0]) // the others are watched by nobody here
		if took := arrives(t, watches[0], 2); took != 0 {
			t.Errorf("it took %s", took)
		}
		if reads := b.taken(); len(reads) != 1 || len(reads[0]) != 1 || reads[0][0] != ids[0] {
			t.Errorf("read %v for %v", reads, ids[0])
		}
		b.hear(2, uuid.New())
		synctest.Wait()
		watches[0].Close()
		b.hear(3, ids[0])
		synctest.Wait()
		if reads := b.taken(); len(reads) > 0 {
			t.Errorf("what nobody watches was read: %v", reads)
		}
		// What this process has published itself is neither read nor delivered a second time.
		b.Publish(ids[1], row{ids[1], 3})
		b.change(3, ids[1])
		arrives(t, watches[1], 3)
		b.hear(3, ids[1])
		synctest.Wait()
		if reads := b.taken(); len(reads) > 0 {
			t.Errorf("what was published here was read: %v", reads)
		}
		select {
		case got := <-watches[1].Changes():
			t.Errorf("delivered %v again", got)
		default:
		}
	})
}

// What is heard while a read is under way shares the next one, in parts of a bounded size.
func TestABurstIsReadTogether(t *testing.T) {
	follow(t, func(t *testing.T, b *table) {
		ids, watches := b.watch(2501)
		b.set(nil, time.Millisecond)
		b.change(2, ids...)
		b.hear(2, ids[0])
		synctest.Wait() // it is being read
		for _, id := range ids[1:] {
			b.hear(2, id)
		}
		for _, w := range watches {
			arrives(t, w, 2)
		}
		var sizes []int
		for _, ids := range b.taken() {
			sizes = append(sizes, len(ids))
		}
		if len(sizes) != 4 || sizes[0] != 1 || max(sizes[1], sizes[2], sizes[3]) > 1000 {
			t.Errorf("read in parts of %v", sizes)
		}
	})
}

func TestALostConnectionIsMadeUpFor(t *testing.T) {
	follow(t, func(t *testing.T, b *table) {
		ids, watches := b.watch(3000)
		b.listening(false)
		b.change(2, ids[0])
		if took := arrives(t, watches[0], 2); took > time.Second {
			t.Errorf("while nothing is heard, it took %s", took)
		}
		b.change(3, ids...)
		b.listening(true)
		for _, w := range watches {
			if took := arrives(t, w, 3); took != 0 {
				t.Fatalf("after the connection was made again, it took %s", took)
			}
		}
	})
}

// A notification that never comes delays a change, and no more. Looking for such costs little.
func TestWhatIsNotHeardIsFound(t *testing.T) {
	follow(t, func(t *testing.T, b *table) {
		<-time.After(time.Hour)
		if reads := b.taken(); len(reads) > 0 {
			t.Errorf("%d reads while nobody waits", len(reads))
		}
		const n = 3000
		ids, watches := b.watch(n)
		began := time.Now()
		b.change(2, ids...)
		for _, w := range watches {
			arrives(t, w, 2)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("all were found after %s", took)
		}
		b.taken()
		began = time.Now()
		<-time.After(time.Minute)
		looked := 0
		for _, ids := range b.taken() {
			looked += len(ids)
			if len(ids) > n/2 {
				t.Errorf("%d were looked at together", len(ids))
			}
		}
		if perSecond := looked / int(time.Since(began).Seconds()); perSecond < n/4 || perSecond > n {
			t.Errorf("%d were looked at in each second", perSecond)
		}
	})
}

func TestAFailedReadIsRepeated(t *testing.T) {
	follow(t, func(t *testing.T, b *table) {
		ids, watches := b.watch(1500)
		b.set(errors.New("the database is away"), 0)
		b.change(2, ids...)
		b.hear(2, ids...)
		synctest.Wait()
		watches[1].Close()
		time.AfterFunc(time.Second, func() { b.set(nil, 0) })
		if took := arrives(t, watches[0], 2); took < time.Second || took > 2*time.Second {
			t.Errorf("it took %s", took)
		}
		for _, w := range watches[2:] {
			arrives(t, w, 2)
		}
	})
}

func TestTheEndOfTheFeedIsTheEnd(t *testing.T) {
	hub := watch.New(quiet, versionOf, nil)
	failure := errors.New("no feed")
	feed := func(context.Context, func([]watch.Change), func(bool)) error { return failure }
	if err := hub.Run(t.Context(), feed); !errors.Is(err, failure) {
		t.Errorf("got %v", err)
	}
}
