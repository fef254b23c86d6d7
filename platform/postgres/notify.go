package postgres

import (
	"context"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lib/pq"

	"github.com/altyn-pay/altyn/platform/stage"
)

const (
	pingInterval = 10 * time.Second
	// hearTimeout is how long the server may be silent, even to pings, until the connection counts as lost.
	hearTimeout = 2 * pingInterval
	// Bounds of the growing pause before a lost connection is made again.
	firstReconnect = 20 * time.Millisecond
	lastReconnect  = time.Second
)

// Listen calls heard with every notification (pg_notify) on the channel until ctx ends, then returns nil. It has a
// connection of its own under the service's role. A lost connection is made again; notifications are lost meanwhile.
// listening(true) says that from now on nothing is missed, listening(false) that this no longer holds. Both callbacks
// are called from several goroutines and must not block.
//
// It needs a session of its own: a pooler that lends sessions for one transaction at a time passes no notifications
// on.
func Listen(ctx context.Context, cfg Config, channel string, log *slog.Logger,
	heard func(text string), listening func(bool)) error {
	var lost bool // only the listener's goroutine uses it
	listener := pq.NewDialListener(dialUntil(ctx, cfg.Address()), listenDSN(cfg), firstReconnect, lastReconnect,
		func(event pq.ListenerEventType, err error) {
			switch event {
			case pq.ListenerEventConnected, pq.ListenerEventReconnected:
				if lost {
					log.Info("listening to the database again", "channel", channel)
				}
				lost = false
			default:
				listening(false)
				if !lost && ctx.Err() == nil {
					log.Warn("not listening to the database", "channel", channel, "error", err)
				}
				lost = true
			}
		})
	var workers sync.WaitGroup
	workers.Go(func() { subscribe(ctx, listener, channel, log, listening) })
	workers.Go(func() { ping(ctx, listener) })
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() }) // it fails only when it is closed already
	defer stop()
	for notification := range listener.Notify { // until it is closed
		if notification == nil { // connected again
			listening(true)
		} else {
			heard(notification.Extra)
		}
	}
	workers.Wait()
	return nil
}

// subscribe sends LISTEN for the first time; on each later connection the listener does so itself.
func subscribe(ctx context.Context, listener *pq.Listener, channel string, log *slog.Logger, listening func(bool)) {
	for again := true; again; again = stage.Wait(ctx, lastReconnect) {
		err := listener.Listen(channel)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			listening(true)
			return
		}
		log.Warn("the database refuses to be listened to", "channel", channel, "error", err)
	}
}

// ping makes the server answer now and then, so that silence means that the connection is lost.
func ping(ctx context.Context, listener *pq.Listener) {
	ticker := time.NewTicker(pingInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			func() {
				defer func() { _ = recover() }() // lib/pq panics when the ping itself is cancelled
				_ = listener.Ping()              // a failure ends the connection, which the listener reports
			}()
		}
	}
}

// dialUntil makes connections that end with until. It connects to the configured address, whatever lib/pq reads from
// PG… variables of the environment, which it does for a listener.
func dialUntil(until context.Context, address string) dialer {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		if err := until.Err(); err != nil {
			return nil, err
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(until, cancel)()
		conn, err := dialBounded(hearTimeout)(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &endingConn{Conn: conn, stop: context.AfterFunc(until, func() { conn.Close() })}, nil
	}
}

// endingConn is a connection that is also closed from elsewhere.
type endingConn struct {
	net.Conn
	stop func() bool
}

func (c *endingConn) Close() error {
	c.stop()
	return c.Conn.Close()
}

// listenDSN is the configuration in the form that pq.NewDialListener takes.
func listenDSN(cfg Config) string {
	var dsn strings.Builder
	for _, setting := range [][2]string{
		{"host", cfg.Host}, {"port", strconv.Itoa(int(cfg.Port))}, {"dbname", cfg.Database},
		{"user", cfg.User}, {"password", cfg.Password}, {"sslmode", cfg.sslMode()}, {"sslrootcert", cfg.SSLRoots},
		{"application_name", cfg.Application}, {"connect_timeout", strconv.Itoa(int(connectTimeout.Seconds()))},
	} {
		if setting[1] != "" {
			dsn.WriteString(setting[0] + "='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(setting[1]) + "' ")
		}
	}
	return dsn.String()
}
