// Package load is a client of Altyn that makes load: it opens and funds accounts and places orders through the
// gateway, from many goroutines at once. The demo, the benchmark and the whole-system tests share it.
package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/valyala/fasthttp"
	"golang.org/x/sync/errgroup"

	"github.com/altyn-pay/altyn/platform/stage"
)

const (
	maxConnections = 2048
	requestTimeout = 40 * time.Second
	retryPause     = 100 * time.Millisecond
)

// Client speaks to a gateway, such as http://127.0.0.1:8000. It is safe for concurrent use.
type Client struct {
	base  string
	token string
	http  *fasthttp.Client
}

// New returns a client. It connects when it is first used.
func New(base string) *Client {
	dialer := net.Dialer{Timeout: requestTimeout}
	return &Client{base: base, http: &fasthttp.Client{
		Dial:            func(addr string) (net.Conn, error) { return dialer.DialContext(context.Background(), "tcp", addr) },
		MaxConnsPerHost: maxConnections, ReadTimeout: requestTimeout, WriteTimeout: requestTimeout,
		MaxIdemponentCallAttempts: 1, NoDefaultUserAgentHeader: true, DisablePathNormalizing: true,
	}}
}

// As returns the client as somebody who has a token.
func (c *Client) As(token string) *Client { return &Client{c.base, token, c.http} }

// Close drops the connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// StatusError is an answer with a status other than 2xx.
type StatusError struct {
	Status int
	Body   string
}

func (e *StatusError) Error() string { return fmt.Sprintf("%d %s", e.Status, e.Body) }

// Code returns the code of the problem in the answer; "" if it is none.
func (e *StatusError) Code() string {
	var problem struct {
		Code string `json:"code"`
	}
	_ = json.Unmarshal([]byte(e.Body), &problem) // what is no problem has no code
	return problem.Code
}

// Call sends a request with an optional JSON body and reads a 2xx answer into out, unless that is nil; a *[]byte gets
// it as it came. Any other status is a *StatusError.
func (c *Client) Call(method, path, key string, body, out any) error {
	request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(request)
	defer fasthttp.ReleaseResponse(response)
	request.Header.SetMethod(method)
	request.SetRequestURI(c.base + path)
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	switch body := body.(type) {
	case nil:
	case []byte:
		request.Header.SetContentType("application/json")
		request.SetBodyRaw(body)
	default:
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		request.Header.SetContentType("application/json")
		request.SetBodyRaw(text)
	}
	if err := c.http.DoTimeout(request, response, requestTimeout); err != nil {
		return err
	}
	if status := response.StatusCode(); status < 200 || status > 299 {
		return &StatusError{status, string(response.Body())}
	}
	switch out := out.(type) {
	case nil:
		return nil
	case *[]byte:
		*out = append((*out)[:0], response.Body()...)
		return nil
	}
	return json.Unmarshal(response.Body(), out)
}

// Retry posts with a key until the answer is no fault of the server (a lost connection, 5xx), or until ctx ends. The
// key makes that safe: whatever the failed attempts did, the request takes effect once.
func (c *Client) Retry(ctx context.Context, path, key string, body, out any) error {
	if key == "" {
		return errors.New("a request without a key cannot be repeated")
	}
	return c.retry(ctx, "POST", path, key, body, out)
}

// Get reads what is at a path. Like Retry, it outlasts faults of the server.
func (c *Client) Get(ctx context.Context, path string, out any) error {
	return c.retry(ctx, "GET", path, "", nil, out)
}

func (c *Client) retry(ctx context.Context, method, path, key string, body, out any) error {
	for {
		err := c.Call(method, path, key, body, out)
		var status *StatusError
		if err == nil || errors.As(err, &status) && status.Status < 500 {
			return err
		}
		if !stage.Wait(ctx, retryPause) {
			return errors.Join(ctx.Err(), err)
		}
	}
}

// Accounts opens n accounts and deposits the same amount on each, with so many clients at once.
func (c *Client) Accounts(ctx context.Context, n, clients int, amount, currency string) ([]uuid.UUID, error) {
	ids := make([]uuid.UUID, n)
	run := uuid.NewString()
	err := Each(ctx, n, clients, func(i int) error {
		var account struct {
			ID uuid.UUID `json:"id"`
		}
		key := run + strconv.Itoa(i)
		if err := c.Retry(ctx, "/api/v1/accounts", key, map[string]string{"owner": "load"}, &account); err != nil {
			return fmt.Errorf("open account: %w", err)
		}
		ids[i] = account.ID
		if amount == "" {
			return nil
		}
		deposit := map[string]string{"amount": amount, "currency": currency}
		if err := c.Retry(ctx, "/api/v1/accounts/"+account.ID.String()+"/deposits", key, deposit, nil); err != nil {
			return fmt.Errorf("deposit: %w", err)
		}
		return nil
	})
	return ids, err
}

// Each calls do for 0 to n-1, with so many calls at once. It stops at the first error and returns it.
func Each(ctx context.Context, n, clients int, do func(i int) error) error {
	group, calling := errgroup.WithContext(ctx)
	group.SetLimit(clients)
	begun := 0
	for ; begun < n && calling.Err() == nil; begun++ {
		i := begun
		group.Go(func() error { return do(i) })
	}
	err := group.Wait()
	if err == nil && begun < n {
		err = ctx.Err()
	}
	return err
}
