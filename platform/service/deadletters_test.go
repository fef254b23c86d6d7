package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/actions"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/kafka/inspect"
	"github.com/altyn-pay/altyn/platform/telemetry"
	"github.com/altyn-pay/altyn/testkit/kfaketest"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

var (
	quiet = slog.New(slog.DiscardHandler)
	shop  = Program{Name: "shop", Reads: []string{contract.TopicOrders, contract.TopicCommands}}
)

// bundle is a broker with dead letters on it.
type bundle struct {
	*testing.T
	postgrestest.DB
	broker   kafka.Config
	producer *kafka.Producer
}

func TestMain(m *testing.M) { postgrestest.Main(m) }

func setup(t *testing.T) *bundle {
	t.Parallel()
	b := &bundle{T: t, DB: postgrestest.Database(t, shop.Name, actions.Migrations()), broker: kfaketest.Broker(t)}
	b.ensure(append(slices.Clone(shop.Reads), contract.TopicPayments)...)
	producer, err := kafka.NewProducer(b.broker, quiet, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(producer.Close)
	b.producer = producer
	return b
}

// shop is the program on the broker.
func (b *bundle) shop() Program {
	program := shop
	program.Config = Config{Kafka: b.broker, Postgres: b.Config,
		Telemetry: telemetry.Config{LogLevel: slog.LevelError + 1}}
	return program
}

func (b *bundle) ensure(topics ...string) {
	b.Helper()
	for _, topic := range topics {
		if err := kafka.EnsureTopics(b.Context(), b.broker, topic, contract.DeadLetter(topic)); err != nil {
			b.Fatal(err)
		}
	}
}

// deadLetter puts n messages of a topic among the dead letters and returns them.
func (b *bundle) deadLetter(topic string, n int) []kafka.Message {
	b.Helper()
	messages, reasons := make([]kafka.Message, n), make([]error, n)
	for i := range messages {
		event := kafka.Event{ID: uuid.NewString(), Type: "test", Source: "/test", Traceparent: "trace"}
		messages[i] = kafka.Message{Topic: topic, Partition: 1, Offset: int64(i), Key: []byte(fmt.Sprint("key-", i%3)),
			Value: []byte(fmt.Sprint(topic, " ", i)), Headers: event.Headers()}
		reasons[i] = errors.New("cannot be read\nat all")
	}
	if err := b.producer.DeadLetters(b.Context(), messages, reasons, nil); err != nil {
		b.Fatal(err)
	}
	return messages
}

// read is all that is on a topic, without its places and times, sorted by value.
func (b *bundle) read(topic string) (messages []kafka.Message) {
	b.Helper()
	backlog, err := inspect.OpenBacklog(b.Context(), b.broker, "test", topic)
	if err != nil {
		b.Fatal(err)
	}
	defer backlog.Close()
	if err := backlog.Look(b.Context(), func(m kafka.Message, _ bool) {
		messages = append(messages, kafka.Message{Topic: m.Topic, Key: m.Key, Value: m.Value, Headers: m.Headers})
	}); err != nil {
		b.Fatal(err)
	}
	slices.SortFunc(messages, func(x, y kafka.Message) int { return bytes.Compare(x.Value, y.Value) })
	return messages
}

func (b *bundle) putBack() string {
	b.Helper()
	var out strings.Builder
	if err := putBack(b.Context(), &out, b.shop(), Return{}); err != nil {
		b.Fatal(err)
	}
	return out.String()
}

func (b *bundle) list() string {
	b.Helper()
	var out strings.Builder
	if err := deadLetters(b.Context(), &out, b.shop(), Only{}); err != nil {
		b.Fatal(err)
	}
	return out.String()
}

func (b *bundle) recorded(want int, query string) {
	b.Helper()
	var n int
	if err := b.Service.Get(&n, query); err != nil || n != want {
		b.Errorf("%d actions are recorded, want %d, %v", n, want, err)
	}
}

func TestDeadLettersAboutAnID(t *testing.T) {
	m := kafka.Message{Key: []byte("account-1"), Value: []byte(`{"order_id":"order-1"}`),
		Headers: []kafka.Header{{Key: "ce_subject", Value: []byte("subject-1")}}}
	for about, covers := range map[string]bool{"": true, "account-1": true, "order-1": true, "subject-1": true,
		"order-2": false, "ce_subject": false} {
		if (Only{About: about}).covers(m) != covers {
			t.Errorf("%q: covers is not %t", about, covers)
		}
	}
	b := setup(t)
	b.deadLetter(contract.TopicOrders, 5)
	var out strings.Builder
	if err := deadLetters(b.Context(), &out, b.shop(), Only{About: contract.TopicOrders + " 3"}); err != nil ||
		!strings.Contains(out.String(), "\n1 dead letters, 0 of them put back\n") {
		t.Errorf("%v: %s", err, out.String())
	}
}

// What the broker has deleted is said to be gone, unless it was put back before.
func TestDeadLettersThatAreGone(t *testing.T) {
	b := setup(t)
	says := func(commands ...func() string) {
		t.Helper()
		for _, command := range commands {
			if said := command(); !strings.Contains(said, "\n3 more are gone without having been put back") {
				t.Errorf("it says %s", said)
			}
		}
	}
	b.deadLetter(contract.TopicOrders, 3)
	kfaketest.DeleteRecords(t, b.broker, contract.DeadLetter(contract.TopicOrders))
	says(b.list)
	b.deadLetter(contract.TopicOrders, 5)
	says(b.putBack)
	if said := b.putBack(); strings.Contains(said, "gone") {
		t.Errorf("after all were put back it says %s", said)
	}
	b.deadLetter(contract.TopicOrders, 3)
	kfaketest.DeleteRecords(t, b.broker, contract.DeadLetter(contract.TopicOrders))
	says(b.list, b.putBack)
}

func TestDeadLettersArePutBackOnce(t *testing.T) {
	b := setup(t)
	if got := b.putBack() + b.list(); got != "0 messages put back, 0 left out\n0 dead letters, 0 of them put back\n" {
		t.Errorf("without any: %s", got)
	}
	want := map[string][]kafka.Message{contract.TopicOrders: b.deadLetter(contract.TopicOrders, 12),
		contract.TopicCommands: b.deadLetter(contract.TopicCommands, 3)}
	b.deadLetter(contract.TopicPayments, 5) // which the shop does not read

	list := b.list()
	if lines := strings.Split(list, "\n"); len(lines) != 18 || !strings.HasPrefix(lines[0], "topic ") ||
		!strings.Contains(list, "\n15 dead letters, 0 of them put back\n") ||
		!strings.Contains(list, "cannot be read at all") || !strings.Contains(list, "  key-2  ") ||
		!strings.Contains(list, "billing.commands  1          2       20") {
		t.Errorf("listed\n%s", list)
	}
	if got := b.putBack(); !strings.HasSuffix(got, "\n15 messages put back, 0 left out\n") ||
		!strings.Contains(got, "15 of 15\n") {
		t.Errorf("told %s", got)
	}
	for range 2 { // the second time it does nothing
		for topic, messages := range want {
			for i := range messages {
				messages[i].Partition, messages[i].Offset = 0, 0
			}
			slices.SortFunc(messages, func(x, y kafka.Message) int { return bytes.Compare(x.Value, y.Value) })
			if got := b.read(topic); !reflect.DeepEqual(got, messages) {
				t.Errorf("on %s there is\n%+v, want\n%+v", topic, got, messages)
			}
		}
		if got := b.putBack(); got != "0 messages put back, 0 left out\n" {
			t.Errorf("once more: %s", got)
		}
	}
	if got := b.read(contract.TopicPayments); len(got) != 0 {
		t.Errorf("of another service's: %+v", got)
	}
	b.recorded(15, `SELECT count(DISTINCT object) FROM admin_actions WHERE tenant = 'default'
		AND action = 'dead_letter.put_back' AND detail::json->>'reason' = 'cannot be read at all'`)
	if list := b.list(); !strings.Contains(list, "\n15 dead letters, 15 of them put back\n") ||
		strings.Contains(list, "  no  ") {
		t.Errorf("listed\n%s", list)
	}
	b.deadLetter(contract.TopicOrders, 1)
	if got := b.putBack(); got != "1 of 1\n1 messages put back, 0 left out\n" {
		t.Errorf("a further one: %s", got)
	}
}

func TestWhatCannotBePutBackIsNamed(t *testing.T) {
	b := setup(t)
	large := kafka.Message{Topic: contract.TopicOrders, Partition: 2, Offset: 17, Key: []byte("key-0"),
		Value: make([]byte, kafka.MaxMessageBytes)}
	if err := b.producer.DeadLetters(t.Context(), []kafka.Message{large}, []error{errors.New("too large")},
		nil); err != nil {
		t.Fatal(err)
	}
	b.deadLetter(contract.TopicOrders, 3)
	got := b.putBack()
	if !strings.Contains(got, "left out: orders.dlq, partition ") ||
		!strings.Contains(got, "(was orders, partition 2, offset 17): it is not whole\n") ||
		!strings.HasSuffix(got, "3 messages put back, 1 left out\n") {
		t.Errorf("told %s", got)
	}
	if list := b.list(); !strings.Contains(list, "  never  ") ||
		!strings.Contains(list, "4 dead letters, 3 of them put back\n") {
		t.Errorf("listed\n%s", list)
	}
	if got := b.putBack(); got != "0 messages put back, 0 left out\n" {
		t.Errorf("once more: %s", got)
	}
}

func TestAnInterruptedReturnGoesOn(t *testing.T) {
	b := setup(t)
	b.deadLetter(contract.TopicOrders, 10)
	ended, cancel := context.WithCancel(t.Context())
	var out strings.Builder
	interrupt := interrupter{Writer: &out, then: cancel}
	err := putBack(ended, interrupt, b.shop(), Return{})
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "goes on from here") {
		t.Errorf("interrupted: %v", err)
	}
	b.putBack()
	if got := b.read(contract.TopicOrders); len(got) != 10 {
		t.Errorf("in the end there are %d", len(got))
	}
	if err := putBack(t.Context(), &out, shop, Return{}); err == nil {
		t.Error("without brokers there is no error")
	}
}

// What cannot be recorded is not put back.
func TestWhatIsPutBackIsRecorded(t *testing.T) {
	b := setup(t)
	b.deadLetter(contract.TopicOrders, 3)
	for _, statement := range []string{`REVOKE INSERT ON admin_actions FROM shop_service`,
		`GRANT INSERT ON admin_actions TO shop_service`} {
		if _, err := b.Owner.Exec(statement); err != nil {
			t.Fatal(err)
		}
		err := putBack(t.Context(), io.Discard, b.shop(), Return{Operator: Operator{Reason: "the reader is mended"}})
		if got := b.read(contract.TopicOrders); (err == nil) != (len(got) == 3) || err != nil && len(got) > 0 {
			t.Errorf("after %s: %v, %d messages", statement, err, len(got))
		}
	}
	b.recorded(3, `SELECT count(*) FROM admin_actions WHERE reason = 'the reader is mended'`)
}

// interrupter ends something at the first line that is written.
type interrupter struct {
	io.Writer
	then func()
}

func (i interrupter) Write(text []byte) (int, error) {
	i.then()
	return i.Writer.Write(text)
}
