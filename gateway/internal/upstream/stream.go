package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
)

// streamBuffer is small because every open stream holds one.
const streamBuffer = 1 << 10

// Streams sends requests to the same addresses, in turn, each on a connection of its own, for answers that may be streams of
// events: http.Transport keeps two goroutines, the request and 8 KB of buffers for each answer that is not at its end.
func (u *Upstream) Streams() http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) { return u.send(request, u.single) })
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

// Stream is the body of an answer that is a stream of events. Unlike other bodies it outlives the context of its request: it
// lasts until it is closed.
type Stream struct {
	io.Reader
	connection net.Conn
}

// Close ends the stream, and a Read that waits.
func (s *Stream) Close() error { return s.connection.Close() }

// answer is the body of another answer.
type answer struct {
	io.ReadCloser
	connection net.Conn
	stop       func() bool
}

func (a *answer) Close() error {
	a.stop()
	return a.connection.Close()
}

// single sends one request on a new connection, which ends with the body of the answer.
func (u *Upstream) single(a *address, request *http.Request) (*http.Response, error) {
	ctx := request.Context()
	connection, err := u.connect(ctx, a.scheme, a.target)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { connection.Close() })
	response, reader, err := exchange(connection, request)
	switch {
	case err != nil:
		stop()
		connection.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, err
	case !isStream(response):
		response.Body = &answer{response.Body, connection, stop}
	case !stop(): // the connection is being closed
		return nil, ctx.Err()
	case len(response.TransferEncoding) > 0: // the response's own body would keep it alive, with its request
		response.Body = &Stream{httputil.NewChunkedReader(reader), connection}
	default:
		response.Body = &Stream{reader, connection}
	}
	return response, nil
}

func (u *Upstream) connect(ctx context.Context, scheme, host string) (net.Conn, error) {
	if scheme == "http" {
		return u.dial(ctx, "tcp", withPort(host, "80"))
	}
	connection, err := u.dial(ctx, "tcp", withPort(host, "443"))
	if err != nil {
		return nil, err
	}
	name, _, _ := net.SplitHostPort(withPort(host, "443"))
	secure := tls.Client(connection, &tls.Config{ServerName: name})
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if err := secure.HandshakeContext(ctx); err != nil {
		connection.Close()
		return nil, err
	}
	return secure, nil
}

func withPort(host, port string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), port)
}

// exchange sends the request and reads the head of the answer.
func exchange(connection net.Conn, request *http.Request) (*http.Response, *bufio.Reader, error) {
	request.Close = true
	if err := request.Write(connection); err != nil {
		return nil, nil, err
	}
	limited := &io.LimitedReader{R: connection}
	reader := bufio.NewReaderSize(limited, streamBuffer)
	response, err := readHead(reader, limited, request)
	return response, reader, err
}

// readHead reads the head of an answer, which is bounded, from a reader of limited. What a service says before it is of no
// interest.
func readHead(reader *bufio.Reader, limited *io.LimitedReader, request *http.Request) (*http.Response, error) {
	limited.N = maxHeader
	for {
		response, err := http.ReadResponse(reader, request)
		switch {
		case err != nil:
			return nil, err
		case response.StatusCode == http.StatusSwitchingProtocols:
			return nil, fmt.Errorf("unexpected answer: %s", response.Status)
		case response.StatusCode >= http.StatusOK:
			limited.N = math.MaxInt64
			return response, nil
		}
	}
}

func isStream(response *http.Response) bool {
	return response.StatusCode == http.StatusOK && response.ContentLength < 0 && response.Request.Method != http.MethodHead &&
		strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream")
}
