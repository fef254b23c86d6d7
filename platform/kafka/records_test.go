package kafka_test

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/testkit/kfaketest"
)

// bulk is a producer that makes one batch of all that it is given.
func bulk(t *testing.T, cfg kafka.Config, codec string) *kgo.Client {
	t.Helper()
	codecs := map[string]kgo.CompressionCodec{"gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}
	client, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...), kgo.ProducerBatchCompression(codecs[codec]),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchMaxBytes(64<<20), kgo.ProducerLinger(time.Minute), kgo.MaxBufferedRecords(10_000_000))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// sendBatch stores values as one batch.
func sendBatch(t *testing.T, client *kgo.Client, topic string, values ...[]byte) {
	t.Helper()
	var failed error
	for _, value := range values {
		client.Produce(t.Context(), &kgo.Record{Topic: topic, Value: value}, func(_ *kgo.Record, err error) {
			failed = cmp.Or(failed, err)
		})
	}
	if err := client.Flush(t.Context()); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
}

// What a batch has once it is decompressed is bounded. What is larger becomes one message that says so, with its place,
// which makes a dead letter; the consumer goes on behind it.
func TestLargeBatchIsNotRead(t *testing.T) {
	kfaketest.Brokers(t, func(t *testing.T, cfg kafka.Config) {
		cfg.Partitions = 1
		line := bytes.Repeat([]byte("0123456789abcdef"), 64)
		for _, codec := range codecs[1:] {
			t.Run(codec, func(t *testing.T) {
				topic, j := kfaketest.Topic(t, cfg), kfaketest.NewJournal()
				client := bulk(t, cfg, codec)
				lines := 20 << 10
				if codec == "snappy" { // more would not be accepted even when it is compressed
					lines = 10 << 10
				}
				sendBatch(t, client, topic, []byte("before"))
				sendBatch(t, client, topic, bytes.Repeat(line, lines))
				sendBatch(t, client, topic, []byte("between"))
				sendBatch(t, client, topic, slices.Repeat([][]byte{line}, lines)...)
				sendBatch(t, client, topic, []byte("after"))
				consume(t, cfg, topic, []string{topic}, j, nil)
				got := j.Await(t, 4) // of different values: two have none
				var places []string
				for _, m := range got {
					place := fmt.Sprintf("%d %s", m.Offset, m.Value)
					if u := m.Unreadable; u != nil {
						dead := kafka.DeadLetter(m, "another reason")
						place = fmt.Sprintf("%d to %d: %s", u.First, u.Last, u.Cause)
						if dead.Topic != topic+".dlq" || dead.Header("dlq_reason") != u.Error() ||
							dead.Header("dlq_offset") != fmt.Sprint(u.First) ||
							dead.Header("dlq_last_offset") != fmt.Sprint(u.Last) || dead.Header("dlq_truncated") != "true" {
							t.Errorf("the dead letter is %q", dead.Headers)
						}
					}
					places = append(places, place)
				}
				const reason = "it has more than the 8388608 bytes allowed once decompressed"
				if want := []string{
					"0 before", "1 to 1: " + reason, "2 between", fmt.Sprintf("3 to %d: ", lines+2) + reason,
					fmt.Sprintf("%d after", lines+3),
				}; !slices.Equal(places, want) {
					t.Errorf("got %q, want %q", places, want)
				}
				awaitNoLag(t, cfg, topic, topic)
			})
		}
	})
}

// A batch that is allowed may be many messages. They come in pieces, of which each takes a bounded amount of memory.
func TestLargeBatchIsReadInPieces(t *testing.T) {
	kfaketest.Brokers(t, func(t *testing.T, cfg kafka.Config) {
		cfg.Partitions = 1
		topic, j := kfaketest.Topic(t, cfg), kfaketest.NewJournal()
		values := make([][]byte, 200_000)
		for i := range values {
			values[i] = fmt.Append(nil, i)
		}
		sendBatch(t, bulk(t, cfg, "zstd"), topic, values...)
		consume(t, cfg, topic, []string{topic}, j, nil)
		got := j.Await(t, len(values))
		if len(got) != len(values) {
			t.Errorf("%d messages handled, so some twice", len(got))
		}
		for i, m := range got {
			if !bytes.Equal(m.Value, values[i]) || m.Offset != int64(i) {
				t.Fatalf("message %d is %q at %d", i, m.Value, m.Offset)
			}
		}
		awaitNoLag(t, cfg, topic, topic)
	})
}

// batchOf makes a record batch of what is given as its records.
func batchOf(attributes int16, count int32, records []byte) []byte {
	b := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, Attributes: attributes, LastOffsetDelta: max(count, 1) - 1, FirstTimestamp: 1,
		MaxTimestamp: 1,
		ProducerID:   -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: count, Records: records,
		Length: int32(49 + len(records)),
	}
	raw := b.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))
	return raw
}

// storeBatch has a broker that does not look into batches store one.
func storeBatch(t *testing.T, cfg kafka.Config, topic string, raw []byte) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...), kgo.MaxVersions(kversion.V3_0_0()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	request := kmsg.NewPtrProduceRequest()
	request.Acks, request.TimeoutMillis = -1, 10_000
	partition := kmsg.NewProduceRequestTopicPartition()
	partition.Records = raw
	of := kmsg.NewProduceRequestTopic()
	of.Topic, of.Partitions = topic, append(of.Partitions, partition)
	request.Topics = append(request.Topics, of)
	response, err := request.RequestWith(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	if code := response.Topics[0].Partitions[0].ErrorCode; code != 0 {
		t.Fatalf("the batch was refused with %d", code)
	}
}

// Records that cannot be read become one message that says so, whatever is wrong with them, and those around them are
// read.
func TestMalformedBatches(t *testing.T) {
	record := func(value string) []byte {
		r := kmsg.Record{Value: []byte(value)}
		r.Length = int32(len(r.AppendTo(nil)) - 1)
		return r.AppendTo(nil)
	}
	good := record("good")
	for name, raw := range map[string][]byte{
		"no records though some are announced": batchOf(0, 3, nil),
		"fewer than announced":                 batchOf(0, 2, good),
		"noise":                                batchOf(0, 1, bytes.Repeat([]byte{0xff}, 100)),
		"a record that is cut off":             batchOf(0, 1, good[:len(good)-2]),
		"two billion records":                  batchOf(0, 1<<31-1, good),
		"noise as gzip":                        batchOf(1, 1, []byte("not gzip at all")),
		"noise as snappy":                      batchOf(2, 1, []byte("not snappy at all")),
		"noise as lz4":                         batchOf(3, 1, []byte("not lz4 at all")),
		"noise as zstd":                        batchOf(4, 1, []byte("not zstd at all")),
		"headers without end": batchOf(0, 1,
			[]byte{30, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0, 0}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := kfaketest.Broker(t)
			cfg.Partitions = 1
			topic, j := kfaketest.Topic(t, cfg), kfaketest.NewJournal()
			producer := kfaketest.Producer(t, cfg)
			kfaketest.Produce(t, producer, kafka.Message{Topic: topic, Value: []byte("first")})
			storeBatch(t, cfg, topic, raw)
			kfaketest.Produce(t, producer, kafka.Message{Topic: topic, Value: []byte("last")})
			consume(t, cfg, topic, []string{topic}, j, nil)
			got := j.Await(t, 3)
			for len(got) > 0 && string(got[len(got)-1].Value) != "last" {
				got = j.Await(t, 4)
			}
			var unreadable []*kafka.UnreadableError
			for _, m := range got {
				if m.Unreadable != nil {
					unreadable = append(unreadable, m.Unreadable)
				}
			}
			if len(unreadable) != 1 || strings.Contains(unreadable[0].Error(), "%!") {
				t.Fatalf("got %q with %v", values(got), unreadable)
			}
			t.Log(unreadable[0])
		})
	}
}

// A flood of batches that are small only as long as they are compressed leaves the memory as it was.
func TestFloodOfLargeBatchesTakesNoMemory(t *testing.T) {
	cfg := kfaketest.Broker(t)
	cfg.Partitions = 1
	topic, j := kfaketest.Topic(t, cfg), kfaketest.NewJournal()
	client := bulk(t, cfg, "zstd")
	large := bytes.Repeat([]byte("0123456789abcdef"), 20<<16)
	for range 30 {
		sendBatch(t, client, topic, large)
	}
	sendBatch(t, client, topic, []byte("last"))
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	consume(t, cfg, topic, []string{topic}, j, nil)
	got := j.Await(t, 2)
	runtime.ReadMemStats(&after)
	if len(got) != 31 {
		t.Errorf("%d messages", len(got))
	}
	if taken := int64(after.TotalAlloc - before.TotalAlloc); taken > 100<<20 {
		t.Errorf("reading 600 MB of zstd took %d MB of memory", taken>>20)
	}
}
