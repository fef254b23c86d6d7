package outbox

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/altyn-pay/altyn/platform/identity"
)

// Whatever messages have in them, they come out of their rows as they went in: all of a lane, in their order.
func TestRowsHaveTheirMessages(t *testing.T) {
	text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", ":", ",", "1:a,", "ключ,", `{"amount":"1.00"}`,
		strings.Repeat("long ", 1000)}))
	message := rapid.Custom(func(t *rapid.T) Message {
		return Message{
			Lane: rapid.Int16Range(0, 3).Draw(t, "lane"), ID: uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id")),
			Type: text.Draw(t, "type"), Topic: text.Draw(t, "topic"), Key: text.Draw(t, "key"), Subject: text.Draw(t, "subject"),
			Payload: text.Draw(t, "payload"), Traceparent: text.Draw(t, "traceparent"),
			Tenant: rapid.SampledFrom([]string{"default", "shop", strings.Repeat("t", identity.MaxTenant)}).Draw(t, "tenant"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		messages := rapid.SliceOfN(message, 0, 5*rowMessages).Draw(t, "messages")
		lanes, counts, texts := pack(messages)
		want, got := map[int16][]Message{}, map[int16][]Message{}
		for _, m := range messages {
			want[m.Lane] = append(want[m.Lane], m)
		}
		for i, lane := range lanes {
			unpacked, err := Row{Seq: 7, Lane: lane, Messages: texts[i]}.Unpack()
			if err != nil {
				t.Fatal(err)
			}
			if len(unpacked) != int(counts[i]) || len(unpacked) > rowMessages {
				t.Fatalf("a row of %d has %d messages", counts[i], len(unpacked))
			}
			if last := unpacked[len(unpacked)-1]; len(texts[i])-len(last.row()) >= rowBytes {
				t.Fatalf("a row of %d bytes has got one of %d", len(texts[i]), len(last.row()))
			}
			for n, m := range unpacked {
				if m.Seq != int64(7+n) {
					t.Fatalf("message %d of row 7 is number %d", n, m.Seq)
				}
				m.Seq = 0
				got[lane] = append(got[lane], m)
			}
		}
		for lane := range want {
			if !slices.Equal(got[lane], want[lane]) {
				t.Fatalf("of lane %d came out\n%+v, went in\n%+v", lane, got[lane], want[lane])
			}
		}
	})
}

func TestWhatIsNoRowIsRefused(t *testing.T) {
	whole := messagesOf("key", "payload")[0].row()
	for _, text := range []string{
		"x", ":", ":,", "1:,", "-1:,", "9:id,", "2:id.", "2:id,", whole[1:], whole[:len(whole)-1], whole + "0",
		"99999999999999999999:x,",
		strings.Replace(whole, "-", "x", 1),
	} {
		if messages, err := (Row{Messages: text}).Unpack(); err == nil {
			t.Errorf("%q has %+v", text, messages)
		}
	}
}

// Where the broker has taken a part of a row, only the rest is sent again.
func TestOfARowTheRestIsPublishedLater(t *testing.T) {
	b := setup(t)
	back := b.away("a")
	b.appendAll(append(messagesOf("a", "1", "2"), messagesOf("b", "1")...)...)
	if n := b.rows("outbox"); n != 1 {
		t.Fatalf("%d rows", n)
	}
	relay := b.lead()
	for range 2 {
		if n, refused, err := relay.runOnce(t.Context(), false); n == 0 || refused == nil || err != nil {
			t.Fatalf("%d messages, refused for %v: %v", n, refused, err)
		}
	}
	back()
	relay.step(b, false)
	b.published(map[string][]string{"a": {"1", "2"}, "b": {"1"}})
}

// published expects everything to be published, by key.
func (b *bundle) published(want map[string][]string) {
	b.Helper()
	for key, want := range want {
		if got := b.broker.payloads(key); !slices.Equal(got, want) {
			b.Errorf("%s: published %v, want %v", key, got, want)
		}
	}
	if n := b.rows("outbox"); n != 0 {
		b.Errorf("%d rows are there", n)
	}
}

// A relay is lost after the broker has taken a part of a row and later messages of its keys. The next one does not
// publish an earlier message of a key after a later one, whether the earlier one was in that row or in one that was
// still to be deleted.
func TestALostRelayLeavesNoEarlierMessage(t *testing.T) {
	for _, test := range []struct {
		name  string
		steps func(b *bundle, relay *leader)
	}{
		{"in the row", func(b *bundle, relay *leader) {
			b.appendAll(append(messagesOf("a", "1"), messagesOf("c", "1")...)...)
			relay.refusedStep(b, true)
			b.append("a", "2")
			relay.refusedStep(b, false)
		}},
		{"to be deleted", func(b *bundle, relay *leader) {
			b.append("a", "1")
			relay.step(b, true)
			b.appendAll(append(messagesOf("a", "2"), messagesOf("c", "1")...)...)
			relay.refusedStep(b, true)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := setup(t)
			back := b.away("c")
			lost := b.lead()
			test.steps(b, lost)
			discard(lost.conn)
			back()
			b.lead().step(b, false)
			b.published(map[string][]string{"a": {"1", "2"}, "c": {"1"}})
		})
	}
}

// refusedStep is a step in which the broker does not take everything.
func (l *leader) refusedStep(b *bundle, woken bool) {
	b.Helper()
	if _, refused, err := l.runOnce(b.Context(), woken); refused == nil || err != nil {
		b.Fatal(refused, err)
	}
}

// A message that is refused for good leaves its row with those behind it; of the others none is lost, none published
// twice.
func TestARowIsTakenApart(t *testing.T) {
	b := setup(t)
	var mu sync.Mutex
	bad, away := "плохо", true
	b.broker.fail = func(m Message) error {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case m.Payload == bad:
			return errRefused
		case away && m.Key == "c":
			return errAway
		}
		return nil
	}
	set := func(change func()) {
		mu.Lock()
		defer mu.Unlock()
		change()
	}
	b.appendAll(slices.Concat(messagesOf("c", "1"), messagesOf("a", "1"), messagesOf("b", "1"), messagesOf("a", bad, "2"),
		messagesOf("c", "2"))...)
	relay, _ := b.run()
	b.until("a is parked", func() bool { return b.rows("outbox_parked") == 2 })
	if n := b.stored(); n != 2 {
		t.Errorf("%d messages are left, not the two that are not taken for now", n)
	}
	set(func() { away = false })
	b.until("c is published", func() bool { return b.rows("outbox") == 0 })
	set(func() { bad = "" })
	if _, err := NewParked(b.Service, relay.Wake).Redrive(t.Context(), b.list()[0].ID, unrecorded); err != nil {
		t.Fatal(err)
	}
	b.until("all is published", func() bool { return b.rows("outbox") == 0 })
	b.published(map[string][]string{"a": {"1", "плохо", "2"}, "b": {"1"}, "c": {"1", "2"}})
}

// One batch has a bound, however many messages the rows have, and messages have numbers in their order.
func TestBatchesOfRows(t *testing.T) {
	b := setup(t)
	var payloads []string
	for i := range 3*batchSize + 1 {
		payloads = append(payloads, fmt.Sprint(i))
	}
	b.append("a", payloads...)
	relay := b.lead()
	for published := 0; published < len(payloads); {
		n, refused, err := relay.runOnce(t.Context(), true)
		if refused != nil || err != nil || n == 0 || n > batchSize+rowMessages {
			t.Fatalf("%d messages at a time, %v, %v", n, refused, err)
		}
		published += n
	}
	if got := b.broker.payloads("a"); !slices.Equal(got, payloads) {
		t.Errorf("published %d, in order: %v", len(got), slices.IsSorted(got))
	}
	// A row's messages have numbers of which no other row has one.
	for i, m := range b.broker.published[1:] {
		if before := b.broker.published[i]; m.Seq <= before.Seq {
			t.Fatalf("message %s is number %d, after number %d", m.Payload, m.Seq, before.Seq)
		}
	}
}
