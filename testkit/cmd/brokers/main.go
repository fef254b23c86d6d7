// Command brokers runs Kafka brokers for the tests of one process, which controls them over standard input and output;
// see package kafkatest. They are kept in memory, and end with the program when its input ends.
package main

import (
	"context"
	"io"
	"log"
	"net/rpc"
	"os"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/altyn-pay/altyn/testkit/kafkatest"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("brokers: ")
	if err := rpc.Register(&Brokers{
		clusters: map[string]*kfake.Cluster{}, refusals: map[kafkatest.Refusal]*kfake.FaultHandle{},
	}); err != nil {
		log.Fatal(err)
	}
	rpc.ServeConn(struct {
		io.Reader
		io.WriteCloser
	}{os.Stdin, os.Stdout})
}

// Brokers serves package kafkatest.
type Brokers struct {
	mu       sync.Mutex
	clusters map[string]*kfake.Cluster // by their addresses
	refusals map[kafkatest.Refusal]*kfake.FaultHandle
}

const patience = 30 * time.Second

// Start starts a broker.
func (b *Brokers) Start(_ bool, address *string) error {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	*address = cluster.ListenAddrs()[0]
	b.clusters[*address] = cluster
	return nil
}

func (b *Brokers) cluster(address string) *kfake.Cluster {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.clusters[address]
}

// Stop stops one.
func (b *Brokers) Stop(address string, _ *bool) error {
	b.cluster(address).Close()
	return nil
}

// Refuse makes it refuse messages.
func (b *Brokers) Refuse(r kafkatest.Refusal, _ *bool) error {
	fault := b.cluster(r.Broker).Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.Produce}, Topic: r.Topic, Err: kerr.TypedErrorForCode(r.Code), Count: r.Count,
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refusals[r] = fault
	return nil
}

// AwaitRefused waits until it has.
func (b *Brokers) AwaitRefused(r kafkatest.Refusal, _ *bool) error {
	b.mu.Lock()
	fault := b.refusals[r]
	b.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return fault.Wait(ctx, r.Count)
}
