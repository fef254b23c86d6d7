package httpserver

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

const (
	readHeaderTimeout   = 5 * time.Second
	defaultWriteTimeout = 60 * time.Second
	// idleTimeout is longer than the gateway keeps an idle connection (90 s), so that it is the client who closes it: a
	// server that closes first can cut off a request that was just sent.
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 32 << 10
	// silence is how long a connection of HTTP/2 may say nothing before it is asked whether it lives. It cannot answer
	// in the middle of its headers, so headers that never end are bounded too.
	silence      = 10 * time.Second
	pingAnswer   = 5 * time.Second
	drainTimeout = 10 * time.Second
)

// Server says what Run serves.
type Server struct {
	// Name tells several servers of a process apart in its log and errors, such as "api" and "admin".
	Name string
	// Addr is the TCP address to listen on. It is not used when there is a Listener.
	Addr     string
	Listener net.Listener
	Handler  http.Handler
	Logger   *slog.Logger
	Limits   Limits // of connections
	// TLS has HTTPS served, over HTTP/1.1 and HTTP/2; nil means HTTP. A handshake has 5 s.
	TLS *tls.Config
	// H2C also serves HTTP/2 without TLS, as gRPC needs it.
	H2C bool
	// WriteTimeout bounds the time from a request's headers to the end of its answer; zero means 60 s.
	WriteTimeout time.Duration
	// DrainTimeout bounds the wait for the requests in flight after the end; zero means 10 s.
	DrainTimeout time.Duration
	// Listening, if set, learns the bound address before the first request is served.
	Listening func(net.Addr)
}

// Listen opens the listener of a server, so that its address is known before Run serves it.
func Listen(ctx context.Context, name, addr string) (net.Listener, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%s server: %w", name, err)
	}
	return listener, nil
}

// Run listens, serves until ctx ends, and drains: it closes the listener, ends what waits on Draining, and waits for
// the requests in flight. Their contexts are cancelled only when the time to drain is over and the requests are cut
// off, which is an error. The error of a port that is taken names it.
func Run(ctx context.Context, s Server) error {
	listener := s.Listener
	if listener == nil {
		var err error
		if listener, err = Listen(ctx, s.Name, s.Addr); err != nil {
			return err
		}
	}

	listener = s.Limits.listener(listener)

	draining, drain := context.WithCancel(context.WithoutCancel(ctx))
	defer drain()
	base, cutOff := context.WithCancel(context.WithoutCancel(ctx))
	defer cutOff()
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(s.TLS != nil)
	protocols.SetUnencryptedHTTP2(s.H2C)
	server := &http.Server{
		Handler:           s.Handler,
		TLSConfig:         s.TLS,
		Protocols:         &protocols,
		ReadHeaderTimeout: readHeaderTimeout,
		WriteTimeout:      cmp.Or(s.WriteTimeout, defaultWriteTimeout),
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		HTTP2:             &http.HTTP2Config{SendPingTimeout: silence, PingTimeout: pingAnswer},
		BaseContext:       func(net.Listener) context.Context { return context.WithValue(base, drainingKey{}, draining) },
		ErrorLog:          slog.NewLogLogger(s.Logger.Handler(), slog.LevelWarn),
	}
	server.RegisterOnShutdown(drain)

	s.Logger.Info("listening", "server", s.Name, "addr", listener.Addr().String(), "tls", s.TLS != nil)
	if s.Listening != nil {
		s.Listening(listener.Addr())
	}
	served := make(chan error, 1)
	go func() {
		if s.TLS != nil {
			served <- server.ServeTLS(listener, "", "")
		} else {
			served <- server.Serve(listener)
		}
	}()
	select {
	case err := <-served:
		return fmt.Errorf("%s server: %w", s.Name, err)
	case <-ctx.Done():
	}

	limit := cmp.Or(s.DrainTimeout, drainTimeout)
	deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	err := server.Shutdown(deadline)
	if err != nil {
		cutOff()
		_ = server.Close() // What fails to close here is gone with the process.
	}
	<-served
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s server: requests that still ran %s after the end were cut off", s.Name, limit)
	}
	if err != nil {
		return fmt.Errorf("%s server: drain: %w", s.Name, err)
	}
	s.Logger.Info("drained", "server", s.Name)
	return nil
}

type drainingKey struct{}

// Draining returns a context that ends when the server of this request begins to shut down. Whatever only waits (a
// stream of events, ?wait=) should end with it; real work goes on. Outside of a server of Run it never ends.
func Draining(ctx context.Context) context.Context {
	if draining, ok := ctx.Value(drainingKey{}).(context.Context); ok {
		return draining
	}
	return context.Background()
}
