package outbox

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/stage"
)

// cluster is what a broker has of topics: the partitions of each, and which of them take nothing for now. A topic that
// is not there is lost.
type cluster struct {
	sync.Mutex
	partitions map[string]int
	down       map[part]bool
	poison     map[string]bool // payloads that are refused for good
}

// fail is a broker's.
func (c *cluster) fail(m Message) error {
	c.Lock()
	defer c.Unlock()
	n, there := c.partitions[m.Topic]
	p := part{m.Topic, n, contract.Partition(m.Key, max(n, 1))}
	switch {
	case !there:
		return &Unavailable{Partitions: 1, Lost: true, Err: errAway}
	case c.down[p]:
		return &Unavailable{Partitions: n, Partition: p.Partition, Err: errAway}
	case c.poison[m.Payload]:
		return errRefused
	}
	return nil
}

func (c *cluster) set(change func()) {
	c.Lock()
	defer c.Unlock()
	change()
}

func (b *bundle) cluster(partitions map[string]int) *cluster {
	c := &cluster{partitions: partitions, down: map[part]bool{}, poison: map[string]bool{}}
	b.broker.fail = c.fail
	return c
}

// keysOf are keys of a partition of so many.
func keysOf(partition, partitions, n int) (keys []string) {
	for i := 0; len(keys) < n; i++ {
		if key := "key-" + strconv.Itoa(i); contract.Partition(key, partitions) == partition {
			keys = append(keys, key)
		}
	}
	return keys
}

func message(topic, key, payload string) Message {
	return Message{Lane: int16(contract.Partition(key, contract.Lanes)), ID: uuid.New(), Type: "test", Topic: topic,
		Key: key, Subject: "subject", Payload: payload}
}

// payloadsOf are those of a topic and key, in the order of their publication.
func (b *broker) payloadsOf(topic, key string) (payloads []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.published {
		if m.Topic == topic && m.Key == key {
			payloads = append(payloads, m.Payload)
		}
	}
	return payloads
}

// now makes every part due.
func (l *leader) now() {
	l.waiting.each(func(w *waitingPart) { w.due = time.Time{} })
}

// settled makes steps until nothing is under way and nothing more happens. It fails when that never comes.
func (l *leader) settled(b *bundle) {
	b.Helper()
	for range 1000 {
		l.now()
		n, refused, err := l.runOnce(b.Context(), false)
		if refused != nil || err != nil {
			b.Fatal(refused, err)
		}
		l.attempts.Wait()
		if n == 0 && len(l.ended) == 0 && b.stored() == 0 && b.rows("outbox_waiting") == 0 {
			l.step(b, false)
			return
		}
	}
	l.waiting.each(func(w *waitingPart) { b.Logf("%+v", *w) })
	b.Fatalf("it never ends: of the outbox %d messages are left, %d rows wait", b.stored(), b.rows("outbox_waiting"))
}

func TestWhatAPartDoesNotTakeIsInNobodysWay(t *testing.T) {
	b := setup(t)
	c := b.cluster(map[string]int{"topic": 4})
	c.down[part{"topic", 4, 2}] = true
	sick, healthy := keysOf(2, 4, 3), keysOf(1, 4, 3)
	var want []string
	relay := b.lead()
	for i := range 3 {
		for range batchSize {
			want = append(want, strconv.Itoa(len(want)))
		}
		for _, key := range sick {
			b.append(key, want[i*batchSize:]...)
		}
		// It is behind more than fit into a batch.
		for _, key := range healthy {
			b.append(key, strconv.Itoa(i))
		}
		for range 4 {
			relay.step(b, false)
		}
	}
	for _, key := range healthy {
		if got := b.broker.payloadsOf("topic", key); !slices.Equal(got, []string{"0", "1", "2"}) {
			t.Errorf("of %s %v is published", key, got)
		}
	}
	if n := b.stored(); n != 0 {
		t.Errorf("%d messages are in the way", n)
	}
	// A relay that takes over does not have to find out.
	relay = b.lead()
	b.broker.tried = nil
	b.append(sick[0], "last")
	relay.waiting.each(func(w *waitingPart) { w.due = time.Now().Add(time.Hour) })
	relay.step(b, false)
	if len(b.broker.tried) != 0 {
		t.Errorf("tried %d messages", len(b.broker.tried))
	}
	c.set(func() { clear(c.down) })
	relay.settled(b)
	for i, key := range sick {
		want := want
		if i == 0 {
			want = append(slices.Clone(want), "last")
		}
		if got := b.broker.payloadsOf("topic", key); !slices.Equal(got, want) {
			t.Errorf("of %s %d are published, in order: %v", key, len(got), slices.Equal(got, want))
		}
	}
	if len(relay.waiting) != 0 {
		t.Errorf("still waiting: %v", relay.waiting)
	}
}

// While nobody else is affected, the attempts for a part are as few as its back-off says, each with one row.
func TestAttemptsOfAPart(t *testing.T) {
	b := setup(t)
	c := b.cluster(map[string]int{"topic": 4})
	c.down[part{"topic", 4, 2}] = true
	key := keysOf(2, 4, 1)[0]
	relay := b.lead()
	for i := range 5 {
		b.append(key, strconv.Itoa(i))
	}
	before := time.Now()
	relay.step(b, false)
	w := relay.waiting["topic"][0]
	for failures := 1; failures < 8; failures++ {
		want := stage.Backoff(failures)
		if w.failures != failures || w.due.Before(before.Add(want)) || w.due.After(time.Now().Add(want)) {
			t.Errorf("after %d failures, it says %d, a pause of %s", failures, w.failures, w.due.Sub(before))
		}
		b.broker.tried = nil
		w.due = time.Now().Add(time.Hour)
		relay.step(b, false)
		if len(b.broker.tried) != 0 {
			t.Errorf("tried before it was due: %+v", b.broker.tried)
		}
		relay.now()
		relay.step(b, false)
		relay.attempts.Wait()
		before = time.Now()
		relay.step(b, false)
		if len(b.broker.tried) != 1 || b.broker.tried[0].Payload != "0" {
			t.Errorf("tried %+v", b.broker.tried)
		}
	}
}

// touched is how often rows of the outbox's tables were read.
func (b *bundle) touched(table string) (n int64) {
	b.Helper()
	if err := b.Service.GetContext(b.Context(), &n, `
		SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables WHERE relname = $1`,
		table); err != nil {
		b.Fatal(err)
	}
	return n
}

// A million messages of a part that takes none cost the others nothing: the relay reads no more rows and sends no more
// requests.
func TestAMillionWaitingMessagesCostNothing(t *testing.T) {
	const million, many = 1_000_000, 100
	b := setup(t)
	c := b.cluster(map[string]int{"topic": 4})
	c.down[part{"topic", 4, 2}] = true
	sick, healthy := keysOf(2, 4, 1)[0], keysOf(1, 4, 1)[0]
	if _, err := b.Service.Exec(`
		INSERT INTO outbox_waiting (topic, partitions, partition, seq, lane, count, messages, created_at)
		SELECT 'topic', 4, 2, -n, 0, 100, repeat($1, 100), now() FROM generate_series(100, $2, 100) n`,
		message("topic", sick, "waits").row(), million); err != nil {
		t.Fatal(err)
	}
	relay := b.lead()
	relay.waiting.each(func(w *waitingPart) { w.due = time.Now().Add(time.Hour) })
	conn := relay.conn
	flush := func() {
		if _, err := conn.ExecContext(t.Context(), `SELECT pg_stat_force_next_flush()`); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.ExecContext(t.Context(), `SELECT 1`); err != nil {
			t.Fatal(err)
		}
	}
	flush()
	before := b.touched("outbox_waiting")
	for i := range many {
		b.append(healthy, strconv.Itoa(i))
		b.append(sick, strconv.Itoa(i))
		relay.step(b, false)
	}
	flush()
	if n := b.touched("outbox_waiting") - before; n != 0 {
		t.Errorf("%d of the waiting messages were read", n)
	}
	if got := b.broker.payloadsOf("topic", healthy); len(got) != many || len(b.broker.tried) != many {
		t.Errorf("published %d, tried %d", len(got), len(b.broker.tried))
	}
	// An attempt reads one row.
	relay.now()
	relay.step(b, false)
	relay.attempts.Wait()
	relay.step(b, false)
	flush()
	if n := b.touched("outbox_waiting") - before; n > 2 { // a row, and the index's look at the next
		t.Errorf("an attempt reads %d rows", n)
	}
}

// A topic that stays lost has its messages go elsewhere, and gets them again when it is back.
func TestInsteadOfALostTopic(t *testing.T) {
	b := setup(t)
	c := b.cluster(map[string]int{"replies": 4, "other": 4})
	relay := b.lead()
	relay.Instead(func(topic string) string {
		if topic == "replies.mine" {
			return "replies"
		}
		return ""
	})
	steps := func() {
		for range 3 {
			relay.now()
			relay.step(b, false)
			relay.attempts.Wait()
			relay.step(b, false)
			relay.step(b, false)
		}
	}
	later := func() { relay.waiting.each(func(w *waitingPart) { w.lostSince = w.lostSince.Add(-lostAfter) }) }
	// What it does not take for another reason is not sent elsewhere, however long that is.
	c.set(func() { c.partitions["replies.mine"] = 1; c.down[part{"replies.mine", 1, 0}] = true })
	b.appendAll(message("replies.mine", "a", "1"), message("other", "a", "2"), message("replies.mine", "b", "3"))
	steps()
	later()
	steps()
	c.set(func() { delete(c.partitions, "replies.mine"); clear(c.down) })
	steps()
	if got := b.broker.payloadsOf("replies", "a"); len(got) != 0 || len(b.broker.payloadsOf("other", "a")) != 1 {
		t.Errorf("at once %v is published", got)
	}
	later()
	steps()
	b.appendAll(message("replies.mine", "a", "4"))
	steps()
	a, key := b.broker.payloadsOf("replies", "a"), b.broker.payloadsOf("replies", "b")
	if !slices.Equal(a, []string{"1", "4"}) || !slices.Equal(key, []string{"3"}) {
		t.Errorf("later %v and %v are published", a, key)
	}
	// The other topic takes nothing either, for now.
	c.set(func() { c.down[part{"replies", 4, contract.Partition("a", 4)}] = true })
	b.appendAll(message("replies.mine", "a", "5"), message("replies.mine", "a", "6"))
	steps()
	c.set(func() { clear(c.down) })
	steps()
	if a := b.broker.payloadsOf("replies", "a"); !slices.Equal(a, []string{"1", "4", "5", "6"}) {
		t.Errorf("%v are published", a)
	}
	c.set(func() { c.partitions["replies.mine"] = 3 })
	b.appendAll(message("replies.mine", "a", "7"))
	relay.settled(b)
	b.appendAll(message("replies.mine", "a", "8"))
	relay.settled(b)
	if a := b.broker.payloadsOf("replies.mine", "a"); !slices.Equal(a, []string{"7", "8"}) || len(relay.waiting) != 0 {
		t.Errorf("in the end %v are published, and %v wait", a, relay.waiting)
	}
}

// An operator puts back a message while later ones of its key wait in a part that takes messages again.
func TestWhatIsPutBackIsNotOvertakenByWhatWaits(t *testing.T) {
	b := setup(t)
	c := b.cluster(map[string]int{"topic": 4})
	p := part{"topic", 4, 2}
	c.down[p] = true
	key := keysOf(2, 4, 1)[0]
	relay := b.lead()
	relay.catchUp = 1
	for _, payload := range []string{"1", "2", "3"} {
		b.appendAll(message("topic", key, payload))
	}
	relay.step(b, false)
	c.set(func() { clear(c.down); c.poison["1"] = true })
	relay.now()
	relay.step(b, false)
	relay.attempts.Wait()
	relay.step(b, false)
	items := b.list()
	if len(items) != 1 || b.rows("outbox_waiting") != 2 {
		t.Fatalf("parked are %+v, %d wait", items, b.rows("outbox_waiting"))
	}
	c.set(func() { clear(c.poison) })
	if _, err := NewParked(b.Service, func() {}).Redrive(t.Context(), items[0].ID, unrecorded); err != nil {
		t.Fatal(err)
	}
	relay.settled(b)
	if got := b.broker.payloadsOf("topic", key); !slices.Equal(got, []string{"1", "2", "3"}) {
		t.Errorf("published %v", got)
	}
}

// An attempt for a topic does not run beside what is published of one of its partitions.
func TestAnAttemptOvertakesNothing(t *testing.T) {
	b := setup(t)
	c := b.cluster(map[string]int{"topic": 4})
	p := part{"topic", 4, 2}
	c.down[p] = true
	key := keysOf(2, 4, 1)[0]
	relay := b.lead()
	b.appendAll(message("topic", key, "1"))
	relay.step(b, false)
	c.set(func() { delete(c.partitions, "topic") })
	b.appendAll(message("topic", keysOf(1, 4, 1)[0], "lost")) // and with it the whole topic
	relay.step(b, false)
	b.appendAll(message("topic", key, "2"))
	relay.step(b, false)
	if n := len(relay.waiting["topic"]); n != 2 {
		t.Fatalf("%d parts wait", n)
	}
	whole, partition := relay.waiting["topic"][0], relay.waiting["topic"][1]
	if _, err := b.Service.Exec(`DELETE FROM outbox_waiting WHERE strpos(messages, 'lost') > 0`); err != nil {
		t.Fatal(err)
	}
	c.set(func() { c.partitions["topic"] = 4; clear(c.down) })
	whole.due, partition.available = time.Time{}, true
	relay.step(b, false)
	if whole.attempting {
		t.Error("2 is tried while 1 is published")
	}
	relay.settled(b)
	if got := b.broker.payloadsOf("topic", key); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("published %v", got)
	}
}

// Whatever happens to topics, partitions and relays, every message is published, and none before an earlier one of its
// key.
func TestOrderSurvivesEverything(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			b := setup(t)
			random := rand.New(rand.NewPCG(seed, 0))
			topics := []string{"one", "two", "three"}
			c := b.cluster(map[string]int{"one": 4, "two": 3})
			operators := NewParked(b.Service, func() {})
			lead := func() *leader {
				relay := b.lead()
				relay.catchUp = 10 // so that nothing is done at once
				return relay
			}
			relay := lead()
			type place struct{ topic, key string }
			want := map[place][]string{}
			steps := func() {
				for range random.IntN(4) {
					if random.IntN(2) == 0 {
						relay.now()
					}
					if random.IntN(2) == 0 {
						relay.attempts.Wait()
					}
					if _, _, err := relay.runOnce(t.Context(), random.IntN(2) == 0); err != nil {
						t.Fatal(err)
					}
				}
			}
			for range 60 {
				var messages []Message
				for range random.IntN(60) {
					at := place{topics[random.IntN(3)], "key-" + strconv.Itoa(random.IntN(20))}
					payload := fmt.Sprintf("%s %s %d", at.topic, at.key, len(want[at]))
					want[at] = append(want[at], payload)
					messages = append(messages, message(at.topic, at.key, payload))
				}
				b.appendAll(messages...)
				c.set(func() {
					topic := topics[random.IntN(3)]
					switch random.IntN(7) {
					case 0:
						delete(c.partitions, topic)
					case 1:
						n := []int{1, 2, 3, 4, 8}[random.IntN(5)]
						c.partitions[topic] = n
						c.down[part{topic, n, random.IntN(n)}] = random.IntN(2) == 0
					case 2, 3:
						if n := c.partitions[topic]; n > 0 {
							c.down[part{topic, n, random.IntN(n)}] = true
						}
					case 4:
						clear(c.down)
					case 5:
						if len(messages) > 0 {
							c.poison[messages[0].Payload] = true
						}
					}
				})
				switch random.IntN(6) {
				case 0: // the relay is lost, with whatever it was about to delete
					relay.attempts.Wait()
					discard(relay.conn)
					relay = lead()
				case 1:
					for _, item := range b.list() {
						c.set(func() { clear(c.poison) })
						if _, err := operators.Redrive(t.Context(), item.ID, unrecorded); err != nil {
							t.Fatal(err)
						}
					}
				}
				steps()
			}
			c.set(func() {
				clear(c.down)
				clear(c.poison)
				for _, topic := range topics {
					c.partitions[topic] = 4
				}
			})
			relay.settled(b)
			for _, item := range b.list() {
				if _, err := operators.Redrive(t.Context(), item.ID, unrecorded); err != nil {
					t.Fatal(err)
				}
			}
			relay.settled(b)
			if n := b.rows("outbox_parked"); n != 0 {
				t.Errorf("%d are parked", n)
			}
			for at, want := range want {
				got := b.broker.payloadsOf(at.topic, at.key)
				// What is published twice, as a relay was lost, is in order the first time and the last.
				first, last := slices.Clone(got), slices.Clone(got)
				slices.Reverse(last)
				for _, list := range []*[]string{&first, &last} {
					seen := map[string]bool{}
					*list = slices.DeleteFunc(*list, func(payload string) bool {
						was := seen[payload]
						seen[payload] = true
						return was
					})
				}
				slices.Reverse(last)
				if !slices.Equal(first, want) || !slices.Equal(last, want) {
					t.Errorf("of %v came\n%q, in the end\n%q, not\n%q", at, first, last, want)
				}
			}
			if len(relay.waiting) != 0 {
				t.Errorf("still waiting: %v", relay.waiting)
			}
		})
	}
}

// A part that fails again while it catches up does not have the relay pause, but a broker that is away does.
func TestWhatMakesTheRelayPause(t *testing.T) {
	b := setup(t)
	c := b.cluster(map[string]int{"topic": 4})
	p := part{"topic", 4, 2}
	key := keysOf(2, 4, 1)[0]
	c.down[p] = true
	relay := b.lead()
	relay.catchUp = 1
	for i := range 5 {
		b.appendAll(message("topic", key, strconv.Itoa(i)))
	}
	relay.step(b, false)
	c.set(func() { clear(c.down) })
	relay.now()
	relay.step(b, false)
	relay.attempts.Wait()
	relay.step(b, false)
	if !relay.waiting["topic"][0].available {
		t.Fatal("the part is not open")
	}
	c.set(func() { c.down[p] = true })
	relay.step(b, false) // fails the test when it has to pause
	if w := relay.waiting["topic"][0]; w.available || w.failures != 1 {
		t.Errorf("the part is %+v", w)
	}
	c.set(func() { clear(c.down) })
	relay.now()
	relay.step(b, false)
	relay.attempts.Wait()
	relay.step(b, false)
	back := b.away(key)
	if _, refused, err := relay.runOnce(t.Context(), false); refused == nil || err != nil {
		t.Errorf("refused for %v: %v", refused, err)
	}
	back()
	relay.settled(b)
	if got := b.broker.payloadsOf("topic", key); !slices.Equal(got, []string{"0", "1", "2", "3", "4"}) {
		t.Errorf("published %v", got)
	}
}
