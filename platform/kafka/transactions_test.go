package kafka_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/IBM/sarama"
	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/testkit/kfaketest"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// otherClient is a producer of another library. Without an ID it has no transactions.
type otherClient interface {
	begin() error
	send(topic, value string) (offset int64, err error) // to the first partition
	end(commit bool) error
	close()
}

type franz struct{ *kgo.Client }

func newFranz(cfg kafka.Config, id, codec string) (otherClient, error) {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	options := []kgo.Opt{kgo.SeedBrokers(cfg.Brokers...), kgo.ProducerBatchCompression(codecs[codec]),
		kgo.RecordPartitioner(kgo.ManualPartitioner())}
	if id != "" {
		options = append(options, kgo.TransactionalID(id))
	}
	client, err := kgo.NewClient(options...)
	return franz{client}, err
}

func (f franz) begin() error { return f.BeginTransaction() }

func (f franz) send(topic, value string) (int64, error) {
	record, err := f.ProduceSync(context.Background(), &kgo.Record{Topic: topic, Value: []byte(value)}).First()
	if err != nil {
		return 0, err
	}
	return record.Offset, nil
}

func (f franz) end(commit bool) error {
	return f.EndTransaction(context.Background(), kgo.TransactionEndTry(commit))
}

func (f franz) close() { f.Close() }

type ibm struct{ sarama.SyncProducer }

func newIBM(cfg kafka.Config, id, codec string) (otherClient, error) {
	config := sarama.NewConfig()
	config.Version = sarama.V3_6_0_0
	config.Producer.Return.Successes, config.Producer.RequiredAcks = true, sarama.WaitForAll
	config.Producer.Partitioner = sarama.NewManualPartitioner
	if err := config.Producer.Compression.UnmarshalText([]byte(codec)); err != nil {
		return nil, err
	}
	if id != "" {
		config.Producer.Idempotent, config.Net.MaxOpenRequests, config.Producer.Transaction.ID = true, 1, id
	}
	producer, err := sarama.NewSyncProducer(cfg.Brokers, config)
	return ibm{producer}, err
}

func (i ibm) begin() error { return i.BeginTxn() }

func (i ibm) send(topic, value string) (int64, error) {
	_, offset, err := i.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(value)})
	return offset, err
}

func (i ibm) end(commit bool) error {
	if commit {
		return i.CommitTxn()
	}
	return i.AbortTxn()
}

func (i ibm) close() { _ = i.Close() }

var libraries = map[string]func(cfg kafka.Config, id, codec string) (otherClient, error){
	"franz-go": newFranz, "sarama": newIBM,
}

var codecs = []string{"none", "gzip", "snappy", "lz4", "zstd"}

// sent is a message with its place in the partition.
type sent struct {
	offset int64
	value  string
}

// interleave has producers of a library write to a topic's first partition at random: some in transactions, of which
// some are aborted, and one without. It returns the values that count, in their order.
func interleave(t *testing.T, cfg kafka.Config, random *rand.Rand, library, codec, topic string) []string {
	t.Helper()
	type producer struct {
		otherClient
		transactional bool
		open          []sent
	}
	var producers []*producer
	var counted []sent
	for n := range 4 {
		id := ""
		if n > 0 {
			id = fmt.Sprintf("%s-%s-%s-%d", topic, library, codec, n)
		}
		client, err := libraries[library](cfg, id, codec)
		if err != nil {
			t.Fatal(err)
		}
		defer client.close()
		producers = append(producers, &producer{otherClient: client, transactional: n > 0})
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	finish := func(p *producer) {
		commit := random.IntN(2) == 0
		if must(p.end(commit)); commit {
			counted = append(counted, p.open...)
		}
		p.open = nil
	}
	for n := range 80 {
		p := producers[random.IntN(len(producers))]
		if p.transactional && len(p.open) > 0 && random.IntN(3) == 0 {
			finish(p)
			continue
		}
		if p.transactional && len(p.open) == 0 {
			must(p.begin())
		}
		m := sent{value: fmt.Sprintf("%s %s %d", library, codec, n)}
		var err error
		m.offset, err = p.send(topic, m.value)
		if must(err); p.transactional {
			p.open = append(p.open, m)
		} else {
			counted = append(counted, m)
		}
	}
	for _, p := range producers {
		if len(p.open) > 0 {
			finish(p)
		}
	}
	slices.SortFunc(counted, func(a, b sent) int { return cmp.Compare(a.offset, b.offset) })
	values := make([]string, len(counted))
	for i, m := range counted {
		values[i] = m.value
	}
	return values
}

func values(messages []kafka.Message) []string {
	list := make([]string, len(messages))
	for i, m := range messages {
		list[i] = string(m.Value)
	}
	return list
}

// What a transaction wrote counts once it is committed; what an aborted one wrote never does. Whoever reads goes past
// the marks at which transactions end.
func TestOnlyWhatIsCommittedIsRead(t *testing.T) {
	kfaketest.Brokers(t, func(t *testing.T, cfg kafka.Config) {
		cfg.Partitions = 1
		for library := range libraries {
			t.Run(library, func(t *testing.T) {
				seed := rand.Uint64()
				t.Logf("seed %d", seed)
				random := rand.New(rand.NewPCG(seed, 0))
				topic := kfaketest.Topic(t, cfg)
				meanwhile, tail := kfaketest.NewJournal(), kfaketest.Follow(t, cfg, topic)
				stop := consume(t, cfg, topic, []string{topic}, meanwhile, nil)
				var want []string
				for _, codec := range codecs {
					want = append(want, interleave(t, cfg, random, library, codec, topic)...)
				}
				afterwards := kfaketest.NewJournal()
				consume(t, cfg, topic+"-later", []string{topic}, afterwards, nil)
				for name, j := range map[string]*kfaketest.Journal{"consumer meanwhile": meanwhile,
					"consumer afterwards": afterwards, "tail": tail} {
					if got := values(j.Await(t, len(want))); !slices.Equal(got, want) {
						t.Errorf("the %s got %q, want %q", name, got, want)
					}
				}
				var looked []kafka.Message
				backlog := kfaketest.Backlog(t, cfg, topic+"-backlog", topic)
				if err := backlog.Look(t.Context(), func(m kafka.Message, _ bool) { looked = append(looked, m) }); err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(values(looked), want) || !slices.Equal(values(kfaketest.Handled(t, backlog)), want) {
					t.Errorf("the backlog has %q, want %q", values(looked), want)
				}
				awaitNoLag(t, cfg, topic, topic)
				awaitNoLag(t, cfg, topic+"-later", topic)
				if n := kfaketest.Backlog(t, cfg, topic+"-backlog", topic).Len(); n != 0 {
					t.Errorf("%d offsets are left of the backlog", n)
				}
				// Whoever goes on from there gets what comes next.
				stop()
				again := kfaketest.NewJournal()
				consume(t, cfg, topic, []string{topic}, again, nil)
				kfaketest.Produce(t, kfaketest.Producer(t, cfg), kafka.Message{Topic: topic, Value: []byte("last")})
				if got := values(again.Await(t, 1)); !slices.Equal(got, []string{"last"}) {
					t.Errorf("then %q", got)
				}
			})
		}
	})
}

// awaitNoLag waits until a group has committed the end of a topic's first partition, as lag is measured from outside.
func awaitNoLag(t *testing.T, cfg kafka.Config, group, topic string) {
	t.Helper()
	client := &kafkago.Client{Addr: kafkago.TCP(cfg.Brokers...), Transport: &kafkago.Transport{}}
	defer client.Transport.(*kafkago.Transport).CloseIdleConnections()
	wait.NoError(t, func() error { // no broker tells of a commit
		ends, err := client.ListOffsets(t.Context(),
			&kafkago.ListOffsetsRequest{Topics: map[string][]kafkago.OffsetRequest{topic: {kafkago.LastOffsetOf(0)}}})
		if err != nil {
			t.Fatal(err)
		}
		committed, err := client.OffsetFetch(t.Context(),
			&kafkago.OffsetFetchRequest{GroupID: group, Topics: map[string][]int{topic: {0}}})
		if err != nil {
			t.Fatal(err)
		}
		end, at := ends.Topics[topic][0].LastOffset, committed.Topics[topic][0].CommittedOffset
		if at != end {
			return fmt.Errorf("group %s has committed %d of %d", group, at, end)
		}
		return nil
	})
}

// A transaction that is open holds up what comes after it in its partition, whoever wrote that, and nothing in the
// others. The broker ends one that hangs at the end of its producer's transaction.timeout.
func TestOpenTransactionHoldsItsPartitionUp(t *testing.T) {
	cfg := kfaketest.Broker(t)
	topic, j := kfaketest.Topic(t, cfg), kfaketest.NewJournal()
	consume(t, cfg, topic, []string{topic}, j, nil)
	client, err := newFranz(cfg, topic, "none")
	if err != nil {
		t.Fatal(err)
	}
	defer client.close()
	if err := client.begin(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.send(topic, "open"); err != nil {
		t.Fatal(err)
	}
	outside := make([]string, 0, 100) // of the first partition
	producer, others := kfaketest.Producer(t, cfg), 0
	for _, m := range kfaketest.Messages(topic, 0, 100, 50) {
		kfaketest.Produce(t, producer, m)
		if partitionOf(m) == 0 {
			outside = append(outside, string(m.Value))
		} else {
			others++
		}
	}
	for _, m := range j.Await(t, others) {
		if m.Partition == 0 {
			t.Errorf("%s is behind a transaction that is open", m.Value)
		}
	}
	if err := client.end(true); err != nil {
		t.Fatal(err)
	}
	var first []string
	for _, m := range j.Await(t, 101) {
		if m.Partition == 0 {
			first = append(first, string(m.Value))
		}
	}
	if want := append([]string{"open"}, outside...); !slices.Equal(first, want) {
		t.Errorf("%q, want %q", first, want)
	}
}
