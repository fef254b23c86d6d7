// Package group makes the process a member of a consumer group, which shares the partitions of topics among its
// members.
//
// A Group lives through generations, in each of which the member has the same partitions. A broker.Reader fetches
// their messages; whatever has arrived is handled as one batch; the offsets are committed after it.
package group

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	kafkago "github.com/segmentio/kafka-go"

	"github.com/altyn-pay/altyn/platform/kafka/internal/broker"
)

// Handler is kafka.Handler.
type Handler = func(ctx context.Context, messages []broker.Message) error

// Group is a consumer group, and what this process consumes as a member of it.
type Group struct {
	Name     string
	Topics   []string
	Log      *slog.Logger
	Consumed *prometheus.CounterVec // by group and topic
	Lag      *prometheus.GaugeVec   // by group, topic and partition
}

// Run is kafka.Consumer.Run over the connections of a pool.
func (g *Group) Run(ctx context.Context, pool *broker.Pool, handle Handler) error {
	member, outages := NewMember(pool, g.Name, g.Topics), broker.NewOutages(g.Log)
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
			err = newGeneration(g, member, assigned, outages, handle).run(ctx)
			if broker.IsAny(err, kafkago.RebalanceInProgress) {
				err = nil
			}
		} else if broker.IsStale(err) || !broker.IsAnswer(err) {
			pool.Forget()
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
