// Package kafka publishes and consumes messages with the guarantees the rest of Altyn is built on, and is the only
// importer of segmentio/kafka-go.
//
// A Producer acknowledges a message once all in-sync replicas have it and never lets a key's later message overtake an
// earlier one. A Consumer hands over whatever has arrived from all of its partitions as one batch and commits the
// offsets only after the batch was handled: every message is handled at least once, a partition's messages in order.
// Neither waits for more messages to come, so an idle system answers at the speed of its network and a busy one works
// in large batches. Duplicates are part of the contract (a lost acknowledgement is a message sent twice); whoever
// handles a message recognises it by its ID.
package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	kafkago "github.com/segmentio/kafka-go"

	"github.com/altyn-pay/altyn/platform/kafka/internal/broker"
)

// Config says how to reach the brokers and how topics are made.
type Config = broker.Config

// Message is one record of a topic.
type Message = broker.Message

// Header is a named value beside the payload. Names may repeat.
type Header = broker.Header

// MaxMessageBytes bounds a message: its key, value and headers with some bytes of overhead each. It is what a broker
// accepts by default.
const MaxMessageBytes = broker.MaxMessageBytes

// UnreadableError is the reason why a part of a record batch, or all of it, cannot be read however often it is fetched.
type UnreadableError = broker.UnreadableError

// Ping returns nil when one of the brokers is up and accepts us.
func Ping(ctx context.Context, cfg Config) error {
	pool, err := broker.Connect(cfg)
	if err != nil {
		return fmt.Errorf("kafka: ping: %w", err)
	}
	defer pool.Close()
	if _, err := pool.Client.ApiVersions(ctx, &kafkago.ApiVersionsRequest{}); err != nil {
		return fmt.Errorf("kafka: ping: %w", err)
	}
	return nil
}

// register adds a collector, or returns the one of that name that another producer or consumer of the process added.
func register[C prometheus.Collector](metrics prometheus.Registerer, collector C) (C, error) {
	err := metrics.Register(collector)
	if already, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if existing, ok := already.ExistingCollector.(C); ok {
			return existing, nil
		}
	}
	return collector, err
}
