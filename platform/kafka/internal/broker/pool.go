// Package broker connects to Kafka's brokers: it knows which of them leads which partition, and fetches what partitions
// have from an offset on. It does what kafka-go lacks: one request for several partitions, reading committed messages
// alone, bounds on what is decompressed.
package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/metadata"

	"github.com/altyn-pay/altyn/platform/stage"
	"github.com/altyn-pay/altyn/platform/tlsfiles"
)

const (
	clientID = "altyn"

	// DialTimeout bounds one attempt to reach one broker, with the handshake of TLS, so that a dead one in the list costs
	// little.
	DialTimeout = 2 * time.Second
	// RequestTimeout bounds one request. A broker that does not answer in this time is as good as lost.
	RequestTimeout = 10 * time.Second

	maxBackoff = 500 * time.Millisecond
)

// Pool is a pool of connections to all brokers. It caches which broker leads which partition. kafka-go would refresh
// that only every few seconds; Forget does so at once.
type Pool struct {
	Client    *kafkago.Client
	transport *kafkago.Transport

	mu        sync.Mutex
	forgotten time.Time
}

// Connect makes a pool; it connects when it is first used. Its error is one of the configuration. The log is told of
// TLS files that have changed.
func Connect(cfg Config, log *slog.Logger) (*Pool, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	mechanism, err := cfg.mechanism()
	if err != nil {
		return nil, err
	}
	trust, err := tlsfiles.Open(cfg.files(), log)
	if err != nil {
		return nil, err
	}
	transport := &kafkago.Transport{
		// Not Transport.TLS, which would stay as it is when the files change.
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return cfg.dial(ctx, trust, network, addr)
		},
		ClientID: clientID,
		SASL:     mechanism,
	}
	client := &kafkago.Client{Addr: kafkago.TCP(cfg.Brokers...), Timeout: RequestTimeout, Transport: transport}
	return &Pool{Client: client, transport: transport}, nil
}

// dial connects to a broker, of the settings or one that another broker has named.
func (c Config) dial(ctx context.Context, trust *tlsfiles.Source, network, addr string) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: DialTimeout}
	switch {
	case c.byTLS(addr):
		return (&tls.Dialer{NetDialer: dialer, Config: trust.Client("")}).DialContext(ctx, network, addr)
	case c.plain() && !local(addr):
		return nil, fmt.Errorf("the brokers name %s, where the password would go over the network as it is: set KAFKA_TLS",
			addr)
	}
	return dialer.DialContext(ctx, network, addr)
}

// Forget drops the idle connections and what is known of the brokers, so that the next request asks again. It does not
// disturb requests under way. A call within 20 ms of another one has no effect: all partitions notice a lost broker at
// the same time.
func (c *Pool) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.forgotten) >= 20*time.Millisecond {
		c.forgotten = now
		c.transport.CloseIdleConnections()
	}
}

// Refresh is Forget for callers that know that what is cached is wrong: it has an effect whenever it is called.
func (c *Pool) Refresh() { c.transport.CloseIdleConnections() }

// Close drops the connections. Requests under way are not disturbed.
func (c *Pool) Close() { c.transport.CloseIdleConnections() }

// RoundTrip sends a request that kafka-go's client cannot make: one for several partitions. All must have the same
// leader.
func (c *Pool) RoundTrip(ctx context.Context, request kafkago.Request) (kafkago.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout)
	defer cancel()
	return c.transport.RoundTrip(ctx, c.Client.Addr, request)
}

// Topic is what is known of a topic: the ID of the broker that leads each partition, negative where none does.
type Topic struct {
	Leaders []int32
	Err     error // such as that the topic does not exist
}

// Topics looks topics up. It costs no round trip while the brokers are known.
func (c *Pool) Topics(ctx context.Context, names ...string) (map[string]Topic, error) {
	response, err := c.RoundTrip(ctx, &metadata.Request{TopicNames: names})
	if err != nil {
		return nil, err
	}
	topics := make(map[string]Topic, len(names))
	for _, t := range response.(*metadata.Response).Topics {
		var found Topic
		switch {
		case t.ErrorCode != 0:
			found.Err = kafkago.Error(t.ErrorCode)
		case len(t.Partitions) == 0:
			found.Err = kafkago.LeaderNotAvailable
		}
		for _, p := range t.Partitions { // sorted
			found.Leaders = append(found.Leaders, p.LeaderID)
		}
		topics[t.Name] = found
	}
	return topics, nil
}

// Partitions returns how many partitions each topic has. It fails when one of them does not exist.
func (c *Pool) Partitions(ctx context.Context, topics ...string) (map[string]int, error) {
	known, err := c.Topics(ctx, topics...)
	if err != nil {
		return nil, err
	}
	counts := make(map[string]int, len(topics))
	for name, t := range known {
		if t.Err != nil {
			return nil, fmt.Errorf("topic %q: %w", name, t.Err)
		}
		counts[name] = len(t.Leaders)
	}
	return counts, nil
}

// Try repeats a request until it succeeds, the patience is over, or stays says that its error will not go away.
func (c *Pool) Try(ctx context.Context, patience time.Duration, stays func(error) bool, request func() error) error {
	for start, failures := time.Now(), 0; ; failures++ {
		err := request()
		if err == nil {
			return nil
		}
		if IsStale(err) || !IsAnswer(err) {
			c.Forget()
		}
		if stays(err) || time.Since(start) >= patience || !Backoff(ctx, failures) {
			return errors.Join(ctx.Err(), err)
		}
	}
}

// Backoff waits before the next attempt: 20 ms after the first failure, twice as long after each further one, up to
// 500 ms. It returns false when ctx ended first.
func Backoff(ctx context.Context, failures int) bool {
	return stage.Wait(ctx, min(maxBackoff, 20*time.Millisecond<<min(failures, 10)))
}
