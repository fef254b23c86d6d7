package rpc_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/uuid"

	paymentsv1 "github.com/altyn-pay/altyn/payments/api/altyn/payments/v1"
	"github.com/altyn-pay/altyn/payments/api/altyn/payments/v1/paymentsv1connect"
	"github.com/altyn-pay/altyn/testkit/issuer"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// maxHeader is what the server reads of a request's headers, with some room for the others.
const maxHeader = 24 << 10

// TestAttacks sends 10,000 tokens that are not valid over HTTP, and over gRPC: each is answered with 401 (400 or 431
// where it cannot be a header), none is taken, and nothing breaks.
func TestAttacks(t *testing.T) {
	tokens := issuer.New(t)
	attacks := tokens.Attacks(10_000)
	b := setup(t)
	b.Settings.Auth = tokens.Config()
	b.Start("all")
	wait.Until(t, "the keys are there", func() bool { return b.Call("GET", "/readyz", nil).Status == 200 })
	good := "Bearer " + tokens.Mint(issuer.Claims{"scope": issuer.Scopes}, nil, tokens.Key())
	account := b.Call("POST", "/api/v1/accounts", "{}", "Authorization", good).Body["id"].(string)
	t.Run("HTTP", func(t *testing.T) {
		each(attacks, func(next func() (issuer.Attack, bool)) {
			c := &rawClient{address: strings.TrimPrefix(b.URL, "http://")}
			defer c.close()
			for attack, ok := next(); ok; attack, ok = next() {
				if strings.ContainsAny(strings.Join(attack.Values, ""), "\r\n") {
					continue // would be another header
				}
				status, challenge, err := c.get("/api/v1/accounts/"+account, attack.Values)
				refused := status == 401 && strings.HasPrefix(challenge, `Bearer realm="altyn"`)
				if err != nil || !refused && status != 400 && status != 431 ||
					status == 400 && printable(attack.Values) || status == 431 && length(attack.Values) < maxHeader {
					t.Errorf("%s: %d %s, %v: %.300q", attack.Name, status, challenge, err, attack.Values)
				}
			}
		})
	})
	t.Run("gRPC", func(t *testing.T) {
		transport := &http.Transport{Protocols: new(http.Protocols)}
		transport.Protocols.SetUnencryptedHTTP2(true)
		defer transport.CloseIdleConnections()
		client := paymentsv1connect.NewPaymentServiceClient(&http.Client{Transport: transport}, b.URL, connect.WithGRPC())
		each(attacks, func(next func() (issuer.Attack, bool)) {
			for attack, ok := next(); ok; attack, ok = next() {
				if !printable(attack.Values) || length(attack.Values) > maxHeader {
					continue // no client sends it
				}
				ctx, call := connect.NewClientContext(t.Context())
				call.RequestHeader()["Authorization"] = attack.Values
				_, err := client.GetBalance(ctx, &paymentsv1.GetBalanceRequest{AccountId: account})
				if connect.CodeOf(err) != connect.CodeUnauthenticated {
					t.Errorf("%s: %v: %.300q", attack.Name, err, attack.Values)
				}
			}
		})
	})
	if a := b.Call("GET", "/api/v1/accounts/"+account, nil, "Authorization", good); a.Status != 200 {
		t.Errorf("a valid token afterwards: %d %v", a.Status, a.Body)
	}
	if metrics := b.Call("GET", "/metrics", nil); metrics.Status != 401 {
		t.Errorf("metrics for everybody: %d", metrics.Status)
	}
}

// each has several goroutines work through the attacks.
func each(attacks []issuer.Attack, work func(next func() (issuer.Attack, bool))) {
	queue := make(chan issuer.Attack)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			work(func() (issuer.Attack, bool) { attack, ok := <-queue; return attack, ok })
		})
	}
	for _, attack := range attacks {
		queue <- attack
	}
	close(queue)
	all.Wait()
}

func printable(values []string) bool {
	return strings.IndexFunc(strings.Join(values, ""), func(c rune) bool { return c < ' ' || c > '~' }) < 0
}

func length(values []string) (n int) {
	for _, value := range values {
		n += len(value)
	}
	return n
}

// rawClient sends headers that a client of Go would refuse to send.
type rawClient struct {
	address string
	net.Conn
	*bufio.Reader
}

func (c *rawClient) close() {
	if c.Conn != nil {
		c.Conn.Close()
		c.Conn = nil
	}
}

func (c *rawClient) get(path string, authorization []string) (status int, challenge string, err error) {
	if c.Conn == nil {
		if c.Conn, err = net.Dial("tcp", c.address); err != nil {
			return 0, "", err
		}
		c.Reader = bufio.NewReader(c.Conn)
	}
	var request strings.Builder
	fmt.Fprintf(&request, "GET %s HTTP/1.1\r\nHost: localhost\r\n", path)
	for _, value := range authorization {
		fmt.Fprintf(&request, "Authorization: %s\r\n", value)
	}
	_, written := io.WriteString(c.Conn, request.String()+"\r\n") // a server that refuses it may not read it all
	response, err := http.ReadResponse(c.Reader, nil)
	if err != nil {
		c.close()
		if written != nil || length(authorization) > maxHeader {
			return 431, "", nil // cut off
		}
		return 0, "", err
	}
	_, err = io.Copy(io.Discard, response.Body)
	response.Body.Close()
	if response.Close {
		c.close()
	}
	return response.StatusCode, response.Header.Get("WWW-Authenticate"), err
}

// TestTokensOverGRPC goes through what a procedure answers to whom.
func TestTokensOverGRPC(t *testing.T) {
	tokens := issuer.New(t)
	b := setup(t)
	b.Settings.Auth = tokens.Config()
	b.Start("api")
	wait.Until(t, "the keys are there", func() bool { return b.Call("GET", "/readyz", nil).Status == 200 })
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	for name, options := range map[string][]connect.ClientOption{
		"gRPC": {connect.WithGRPC()}, "gRPC-Web": {connect.WithGRPCWeb()}, "Connect": nil,
		"Connect by GET": {connect.WithHTTPGet()},
	} {
		client := paymentsv1connect.NewPaymentServiceClient(&http.Client{Transport: transport}, b.URL, options...)
		for _, test := range []struct {
			scopes, authorization string
			code                  connect.Code
			detail                string
		}{
			{"payments:read", "", connect.CodeNotFound, ""},
			{"payments:read.own", "", connect.CodeNotFound, ""},
			{"payments:write accounts:read", "", connect.CodePermissionDenied, "payments:read"},
			{"", "none", connect.CodeUnauthenticated, "a token is needed"},
			{"", "Bearer x.y.z", connect.CodeUnauthenticated, "not valid"},
		} {
			ctx, call := connect.NewClientContext(t.Context())
			switch test.authorization {
			case "":
				call.RequestHeader().Set("Authorization", "Bearer "+tokens.Token("default", "alice", test.scopes))
			case "none":
			default:
				call.RequestHeader().Set("Authorization", test.authorization)
			}
			_, err := client.GetPayment(ctx, &paymentsv1.GetPaymentRequest{OrderId: uuid.NewString()})
			if connect.CodeOf(err) != test.code || !strings.Contains(fmt.Sprint(err), test.detail) {
				t.Errorf("%s, %+v: %v", name, test, err)
			}
		}
	}
}
