// Package group makes the process a member of a consumer group, which shares the partitions of topics among its
// members.
//
// A Group lives through generations, in each of which the member has the same partitions. For each topic a
// broker.Reader fetches their messages; whatever has arrived is handled as one batch; the offsets are committed after
// it.
package group

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	kafkago "github.com/segmentio/kafka-go"

	"github.com/altyn-pay/altyn/platform/kafka/internal/broker"
)

// Handler takes a batch of messages of one topic: at least one, at most 1,000, each partition's in order. When it
// returns an error it gets the same batch again, and the topic waits; the others go on. It is called for several topics
// at the same time, and for one batch of each. Its context outlives the shutdown and the loss of the partitions by
// 10 s, so that a database transaction under way ends by itself.
type Handler func(ctx context.Context, messages []broker.Message) error

// Group is a consumer group, and what this process consumes as a member of it.
type Group struct {
	Pool     *broker.Pool
	Name     string
	Topics   []string
	Log      *slog.Logger
	Consumed *prometheus.CounterVec // by group and topic
	Lag      *prometheus.GaugeVec   // by group, topic and partition
}

// Run hands batches to handle until ctx ends, then finishes and commits the batches under way, leaves the group and
// returns nil. Offsets are committed after their batch was handled, never before, so every message is handled at
// least once, and the messages of a partition in order. Run waits for topics that do not exist yet, and lives through
// the loss of brokers, coordinators and offsets. An error means that the brokers refuse this configuration for good.
func (g *Group) Run(ctx context.Context, handle Handler) error {
	defer g.Pool.Close()
	member, outages := NewMember(g.Pool, g.Name, g.Topics), broker.NewOutages(g.Log)
	for failures := 0; ctx.Err() == nil; {
		assigned, err := member.join(ctx)
		if ctx.Err() != nil {
			break
		}
		if broker.IsRefusal(err) {
			return fmt.Errorf("kafka: consumer group %q: %w", g.Name, err)
		}
		outages.Note("group", err)
		if err == nil {
			g.Log.Info("kafka partitions assigned", "generation", member.generation, "partitions", assigned.ids)
			err = newGeneration(g, member, assigned, outages, handle).run(ctx)
			if broker.IsAny(err, kafkago.RebalanceInProgress) {
				err = nil
			}
		} else if broker.IsStale(err) || !broker.IsAnswer(err) {
			g.Pool.Forget()
		}
		if err == nil {
			failures = 0
			continue
		}
		broker.Backoff(ctx, failures)
		failures++
	}
	if err := member.leave(); err != nil {
		g.Log.Info("kafka consumer group not left; it will notice after the session timeout", "error", err)
	}
	return nil
}
