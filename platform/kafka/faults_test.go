package kafka_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/testkit/kfaketest"
	"github.com/altyn-pay/altyn/testkit/localkafka"
)

// logger writes to w and signals each warning.
func logger(w io.Writer, warned chan<- struct{}) *slog.Logger {
	return slog.New(slog.NewTextHandler(&logWriter{w: w, warned: warned}, nil))
}

type logWriter struct {
	mu     sync.Mutex
	w      io.Writer
	warned chan<- struct{}
}

func (l *logWriter) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if bytes.Contains(line, []byte("level=WARN")) {
		select {
		case l.warned <- struct{}{}:
		default:
		}
	}
	return l.w.Write(line)
}

// broker is one that can be started again on its port and data.
type broker struct{ *localkafka.Broker }

func startBroker(t *testing.T, kind localkafka.Kind) *broker {
	t.Helper()
	started, err := localkafka.Start(t.Context(), localkafka.Options{Kind: kind, DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	b := &broker{started}
	t.Cleanup(func() {
		if err := b.Stop(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *broker) restart() (err error) {
	again := localkafka.Options{Kind: b.Kind, DataDir: b.DataDir, Port: b.Port}
	b.Broker, err = localkafka.Start(context.Background(), again)
	return err
}

// The broker dies while messages flow, several times. Nothing is lost, keys stay in order.
func TestBrokerIsKilled(t *testing.T) {
	for _, kind := range []localkafka.Kind{localkafka.Embedded, localkafka.Apache} {
		t.Run(string(kind), func(t *testing.T) {
			if kind == localkafka.Apache {
				kfaketest.NeedApache(t)
			}
			broker := startBroker(t, kind)
			cfg := broker.Config()
			topic, j := kfaketest.Topic(t, cfg), kfaketest.NewJournal()
			consume(t, cfg, topic, []string{topic}, j, nil)
			producer := kfaketest.Producer(t, cfg)
			n := 0
			for range 2 {
				kfaketest.ProduceAll(t, producer, kfaketest.Messages(topic, n, 500, 20)...)
				n += 500
				j.Await(t, n)
				killed := make(chan error, 1)
				go func() {
					killed <- errors.Join(broker.Kill(), broker.restart())
				}()
				for alive := true; alive; n += 50 {
					kfaketest.ProduceAll(t, producer, kfaketest.Messages(topic, n, 50, 20)...)
					select {
					case err := <-killed:
						if err != nil {
							t.Fatal(err)
						}
						alive = false
					default:
					}
				}
				restarted := time.Now()
				j.Await(t, n)
				t.Logf("consumed again %s after the restart", time.Since(restarted).Round(time.Millisecond))
			}
			got := j.Await(t, n)
			kfaketest.InOrder(t, got)
			stored := map[string]bool{}
			for _, m := range got {
				stored[fmt.Sprint(m.Partition, "/", m.Offset)] = true
			}
			t.Logf("%d messages, %d stored twice, %d handled twice", n, len(stored)-n, len(got)-len(stored))
		})
	}
}

func TestFaultsAreOutlived(t *testing.T) {
	all := func(err *kerr.Error, count int, keys ...kmsg.Key) []kfake.Fault {
		var faults []kfake.Fault
		for _, key := range keys {
			faults = append(faults, kfake.Fault{Keys: []kmsg.Key{key}, Err: err, Count: count})
		}
		return faults
	}
	for name, faults := range map[string][]kfake.Fault{
		"no coordinator yet": all(kerr.CoordinatorNotAvailable, 5, kmsg.FindCoordinator),
		"another coordinator": all(kerr.NotCoordinator, 3, kmsg.JoinGroup, kmsg.SyncGroup, kmsg.OffsetFetch,
			kmsg.Heartbeat, kmsg.OffsetCommit),
		"the coordinator loads": all(kerr.CoordinatorLoadInProgress, 3, kmsg.JoinGroup, kmsg.SyncGroup, kmsg.OffsetFetch,
			kmsg.Heartbeat, kmsg.OffsetCommit),
		"the generation is over": all(kerr.IllegalGeneration, 2, kmsg.SyncGroup, kmsg.Heartbeat, kmsg.OffsetCommit),
		"the group rebalances":   all(kerr.RebalanceInProgress, 2, kmsg.SyncGroup, kmsg.Heartbeat, kmsg.OffsetCommit),
		"the leader moves":       all(kerr.NotLeaderForPartition, 6, kmsg.Fetch, kmsg.ListOffsets),
		"the topic is unknown":   all(kerr.UnknownTopicOrPartition, 6, kmsg.Fetch, kmsg.ListOffsets),
		"the broker has no idea": all(kerr.UnknownServerError, 3, kmsg.Fetch, kmsg.ListOffsets, kmsg.JoinGroup,
			kmsg.SyncGroup, kmsg.OffsetFetch, kmsg.Heartbeat, kmsg.OffsetCommit),
		"the disk of the broker":     all(kerr.KafkaStorageError, 3, kmsg.Fetch, kmsg.ListOffsets),
		"an acknowledgement is lost": all(kerr.RequestTimedOut, 2, kmsg.Produce, kmsg.OffsetCommit),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, cluster := kfaketest.Cluster(t)
			topic, j := kfaketest.Topic(t, cfg), kfaketest.NewJournal()
			handle := cluster.Fault(faults...)
			stop := consume(t, cfg, topic, []string{topic}, j, nil)
			producer := kfaketest.Producer(t, cfg)
			want := 0
			for _, fault := range faults {
				want += fault.Count
			}
			n := 0
			for start := time.Now(); handle.Hits() < want; n += 20 {
				if time.Since(start) > deadline {
					t.Fatalf("%d of %d faults met", handle.Hits(), want)
				}
				kfaketest.ProduceAll(t, producer, kfaketest.Messages(topic, n, 20, 5)...)
				j.Await(t, n+20)
			}
			kfaketest.ProduceAll(t, producer, kfaketest.Messages(topic, n, 20, 5)...)
			kfaketest.InOrder(t, j.Await(t, n+20))
			stop()
			again := kfaketest.NewJournal()
			kfaketest.ProduceAll(t, producer, kfaketest.Messages(topic, n+20, 1, 1)...)
			consume(t, cfg, topic, []string{topic}, again, nil)
			if got := again.Await(t, 1); len(got) != 1 {
				t.Errorf("%d messages after a clean shutdown instead of 1", len(got))
			}
		})
	}
}

func TestConnectionsAreCut(t *testing.T) {
	cfg, cluster := kfaketest.Cluster(t)
	topic, j := kfaketest.Topic(t, cfg), kfaketest.NewJournal()
	consume(t, cfg, topic, []string{topic}, j, nil)
	producer := kfaketest.Producer(t, cfg)
	n := 0
	for _, key := range []kmsg.Key{kmsg.Fetch, kmsg.Heartbeat, kmsg.OffsetCommit, kmsg.Produce, kmsg.Metadata} {
		cut := make(chan struct{})
		cluster.ControlKey(int16(key), func(kmsg.Request) (kmsg.Response, error, bool) {
			close(cut)
			return nil, errors.New("cut"), true
		})
		for isCut := false; !isCut; n += 20 {
			kfaketest.ProduceAll(t, producer, kfaketest.Messages(topic, n, 20, 5)...)
			j.Await(t, n+20)
			select {
			case <-cut:
				isCut = true
			default:
			}
		}
	}
	kfaketest.InOrder(t, j.Await(t, n))
}

func TestOffsetOutOfRange(t *testing.T) {
	for name, lose := range map[string]func(t *testing.T, cfg kafka.Config, cluster *kfake.Cluster, topic string){
		"before the first": func(t *testing.T, _ kafka.Config, cluster *kfake.Cluster, topic string) {
			for partition := range int32(4) {
				if err := cluster.DeleteRecords(topic, partition, -1); err != nil {
					t.Fatal(err)
				}
			}
		},
		"after the last": func(t *testing.T, cfg kafka.Config, cluster *kfake.Cluster, topic string) {
			if err := cluster.DeleteTopic(topic); err != nil {
				t.Fatal(err)
			}
			kfaketest.Ensure(t, cfg, topic)
			commits := map[string][]kafkago.OffsetCommit{}
			for partition := range 4 {
				commits[topic] = append(commits[topic], kafkago.OffsetCommit{Partition: partition, Offset: 1000})
			}
			client := &kafkago.Client{Addr: kafkago.TCP(cfg.Brokers...), Transport: &kafkago.Transport{}}
			defer client.Transport.(*kafkago.Transport).CloseIdleConnections()
			if _, err := client.OffsetCommit(t.Context(),
				&kafkago.OffsetCommitRequest{GroupID: topic, GenerationID: -1, Topics: commits}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, cluster := kfaketest.Cluster(t)
			topic := kfaketest.Topic(t, cfg)
			producer := kfaketest.Producer(t, cfg)
			kfaketest.Produce(t, producer, kfaketest.Messages(topic, 0, 100, 50)...)
			first := kfaketest.NewJournal()
			stop := consume(t, cfg, topic, []string{topic}, first, nil)
			first.Await(t, 100)
			stop()
			kfaketest.Produce(t, producer, kfaketest.Messages(topic, 100, 100, 50)...)
			lose(t, cfg, cluster, topic)
			kfaketest.ProduceAll(t, kfaketest.Producer(t, cfg), kfaketest.Messages(topic, 200, 100, 50)...)

			var log strings.Builder
			warned := make(chan struct{}, 100)
			second := kfaketest.NewJournal()
			stop = consumeLogged(t, cfg, topic, []string{topic}, second, nil, logger(&log, warned), prometheus.NewRegistry())
			kfaketest.InOrder(t, second.Await(t, 100))
			stop()
			lost := 0
			counted := regexp.MustCompile(`offset is out of range.* lost=(\d+)`)
			for _, said := range counted.FindAllStringSubmatch(log.String(), -1) {
				n, err := strconv.Atoi(said[1])
				if err != nil {
					t.Fatal(err)
				}
				lost += n
			}
			if want := map[string]int{"before the first": 100}[name]; lost != want ||
				!strings.Contains(log.String(), "offset is out of range") {
				t.Errorf("%d are said to be lost, want %d:\n%s", lost, want, &log)
			}
		})
	}
}

// A lost broker is logged once, not with every attempt of every partition.
func TestTroubleIsLoggedOnce(t *testing.T) {
	broker := startBroker(t, localkafka.Embedded)
	cfg := broker.Config()
	topic, j := kfaketest.Topic(t, cfg), kfaketest.NewJournal()
	var log strings.Builder
	warned, recovered := make(chan struct{}, 100), make(chan struct{}, 100)
	watched := writer(func(line []byte) (int, error) {
		if bytes.Contains(line, []byte("recovered")) {
			recovered <- struct{}{}
		}
		return log.Write(line)
	})
	stop := consumeLogged(t, cfg, topic, []string{topic}, j, nil, logger(watched, warned), prometheus.NewRegistry())
	producer := kfaketest.Producer(t, cfg)
	kfaketest.Produce(t, producer, kfaketest.Messages(topic, 0, 10, 10)...)
	j.Await(t, 10)
	stopped := make(chan error, 1)
	go func() { stopped <- errors.Join(broker.Stop(), broker.restart()) }()
	<-warned
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	kfaketest.ProduceAll(t, producer, kfaketest.Messages(topic, 10, 100, 10)...)
	j.Await(t, 110)
	select { // the last to notice may be the group, by its next heartbeat
	case <-recovered:
	case <-time.After(deadline):
		t.Error("the log does not say that the trouble is over")
	}
	stop()
	if n := strings.Count(log.String(), "level=WARN"); n > 2 {
		t.Errorf("%d warnings for one restart:\n%s", n, &log)
	}
}

// writer is a function that writes.
type writer func([]byte) (int, error)

func (w writer) Write(line []byte) (int, error) { return w(line) }

func TestSASL(t *testing.T) {
	cfg, _ := kfaketest.Cluster(t, kfake.EnableSASL(),
		kfake.Superuser("PLAIN", "altyn", "secret"), kfake.Superuser("SCRAM-SHA-256", "altyn", "secret"),
		kfake.Superuser("SCRAM-SHA-512", "altyn", "secret"))
	cfg.SASLUser, cfg.SASLPassword = "altyn", "secret"
	for _, mechanism := range []string{"plain", "scram-sha-256", "scram-sha-512"} {
		cfg.SASLMechanism = mechanism
		topic, j := kfaketest.Topic(t, cfg), kfaketest.NewJournal()
		kfaketest.Produce(t, kfaketest.Producer(t, cfg), kfaketest.Messages(topic, 0, 10, 10)...)
		consume(t, cfg, topic, []string{topic}, j, nil)
		j.Await(t, 10)
	}
}

// What no retry heals ends Run.
func TestRefusedConfigurationEndsRun(t *testing.T) {
	for name, fault := range map[string]kfake.Fault{
		"session timeout": {Keys: []kmsg.Key{kmsg.JoinGroup}, Err: kerr.InvalidSessionTimeout},
		"group ID":        {Keys: []kmsg.Key{kmsg.JoinGroup}, Err: kerr.InvalidGroupID},
		"password":        {Keys: []kmsg.Key{kmsg.SASLAuthenticate}, Err: kerr.SaslAuthenticationFailed},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, cluster := kfaketest.Cluster(t, kfake.EnableSASL(), kfake.Superuser("PLAIN", "altyn", "secret"))
			cfg.SASLMechanism, cfg.SASLUser, cfg.SASLPassword = "plain", "altyn", "secret"
			topic := kfaketest.Topic(t, cfg)
			fault.Count, fault.TopLevel = -1, true
			cluster.Fault(fault)
			consumer, err := kafka.NewConsumer(cfg, topic, []string{topic}, silent, prometheus.NewRegistry())
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), deadline)
			defer cancel()
			if err := consumer.Run(ctx, nil); !errors.Is(err, kafkago.Error(fault.Err.Code)) {
				t.Errorf("Run ended with %v", err)
			}
		})
	}
}

// A member that the group has given up comes back by itself.
func TestEvictedMemberComesBack(t *testing.T) {
	cfg, cluster := kfaketest.Cluster(t)
	topic, j := kfaketest.Topic(t, cfg), kfaketest.NewJournal()
	consume(t, cfg, topic, []string{topic}, j, nil)
	producer := kfaketest.Producer(t, cfg)
	kfaketest.Produce(t, producer, kfaketest.Messages(topic, 0, 10, 10)...)
	j.Await(t, 10)
	member := cluster.GroupInfo(topic).Members[0].MemberID
	client := &kafkago.Client{Addr: kafkago.TCP(cfg.Brokers...), Transport: &kafkago.Transport{}}
	defer client.Transport.(*kafkago.Transport).CloseIdleConnections()
	if _, err := client.LeaveGroup(t.Context(), &kafkago.LeaveGroupRequest{
		GroupID: topic, Members: []kafkago.LeaveGroupRequestMember{{ID: member}},
	}); err != nil {
		t.Fatal(err)
	}
	waitGroup(t, cluster, topic, func(g *kfake.GroupInfo) bool {
		return g.State == "Stable" && len(g.Members) == 1 && g.Members[0].MemberID != member
	})
	kfaketest.Produce(t, producer, kfaketest.Messages(topic, 10, 10, 10)...)
	j.Await(t, 20)
}
