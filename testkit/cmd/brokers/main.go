// Command brokers runs Kafka brokers for the tests of one process, which controls them over standard input and output;
// see package kafkatest. They are kept in memory, and end with the program when its input ends.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/rpc"
	"os"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/altyn-pay/altyn/testkit/internal/brokers"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("brokers: ")
	if err := rpc.Register(new(Brokers)); err != nil {
		log.Fatal(err)
	}
	rpc.ServeConn(struct {
		io.Reader
		io.WriteCloser
	}{os.Stdin, os.Stdout})
}

// Brokers serves package brokers' methods.
type Brokers struct {
	mu       sync.Mutex
	clusters []*kfake.Cluster // by their IDs
	refusals []*kfake.FaultHandle
}

// Start starts a broker.
func (b *Brokers) Start(_ bool, started *brokers.Broker) error {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	*started = brokers.Broker{ID: len(b.clusters), Address: cluster.ListenAddrs()[0]}
	b.clusters = append(b.clusters, cluster)
	return nil
}

func (b *Brokers) cluster(id int) *kfake.Cluster {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.clusters[id]
}

// Stop stops one.
func (b *Brokers) Stop(id int, _ *bool) error {
	b.cluster(id).Close()
	return nil
}

// Refuse makes it refuse messages.
func (b *Brokers) Refuse(r brokers.Refusal, id *int) error {
	fault := b.cluster(r.Broker).Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.Produce}, Topic: r.Topic, Err: kerr.TypedErrorForCode(r.Code), Count: r.Count,
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	*id = len(b.refusals)
	b.refusals = append(b.refusals, fault)
	return nil
}

// AwaitRefused waits until it has.
func (b *Brokers) AwaitRefused(r brokers.Refused, _ *bool) error {
	b.mu.Lock()
	fault := b.refusals[r.Refusal]
	b.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), r.Timeout)
	defer cancel()
	return fault.Wait(ctx, r.Count)
}

// AwaitFetched waits until consumers ask for what comes after so many messages.
func (b *Brokers) AwaitFetched(f brokers.Fetched, _ *bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), f.Timeout)
	defer cancel()
	next := map[string]int64{} // offsets by partition
	seen := b.cluster(f.Broker).Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Observe: true, Count: -1,
		When: func(r kmsg.Request) bool {
			for _, topic := range r.(*kmsg.FetchRequest).Topics {
				for _, p := range topic.Partitions {
					next[fmt.Sprint(topic.Topic, p.Partition)] = p.FetchOffset
				}
			}
			var sum int64
			for _, offset := range next {
				sum += offset
			}
			return sum == f.Messages
		}})
	defer seen.Remove()
	return seen.Wait(ctx, 1)
}
