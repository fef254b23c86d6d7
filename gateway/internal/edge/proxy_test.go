package edge

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/altyn-pay/altyn/platform/httpserver"
)

func TestHeadersOfAnAnswer(t *testing.T) {
	g := setup(t, nil, talk(t, "HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nUpgrade: h2c\r\n"+
		"Proxy-Authenticate: Basic\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\nX-Request-Id: its-own\r\nX-Two: a\r\nX-Two: b\r\n"+
		"Content-Length: 4\r\n\r\npaid"))
	response, body, _ := g.do(t, newRequest(t, "GET", g.url+"/api/v1/orders", nil))
	header := response.Header
	for _, name := range []string{"Connection", "X-Hop", "Keep-Alive", "Upgrade", "Proxy-Authenticate"} {
		if header[name] != nil {
			t.Errorf("%s: %q", name, header[name])
		}
	}
	if body != "paid" || header.Get("Date") != "Mon, 02 Jan 2006 15:04:05 GMT" || len(header["X-Two"]) != 2 || len(header["X-Request-Id"]) != 1 ||
		header.Get("X-Request-Id") == "its-own" || response.ContentLength != 4 {
		t.Errorf("%q, %v", body, header)
	}
}

// What the client makes of its connection is not the service's affair, however large the request.
func TestClientsConnectionIsItsOwn(t *testing.T) {
	connections := make(chan string, 4)
	g := setup(t, nil, service(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		connections <- r.Header.Get("Connection")
	}))
	for _, size := range []int{0, 10, smallBody, smallBody + 1} {
		request := newRequest(t, "POST", g.url+"/api/v1/orders", strings.NewReader(strings.Repeat("x", size)))
		request.Close = true
		if response, _, _ := g.do(t, request); response.StatusCode != 200 {
			t.Error(response.Status)
		}
		if got := <-connections; got != "" {
			t.Errorf("%d bytes: Connection: %s", size, got)
		}
	}
}

func TestAnswerThatBreaksOffIsNotWhole(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\npaid", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npaid\r\n",
	} {
		g := setup(t, nil, talk(t, answer))
		response, err := g.Get(g.url + "/api/v1/orders")
		if err == nil {
			_, err = io.ReadAll(response.Body)
			response.Body.Close()
		}
		if err == nil {
			t.Errorf("%q was taken for a whole answer", answer)
		}
		eventually(t, func() bool {
			log := g.log.String()
			return strings.Contains(log, `"level":"ERROR"`) && strings.Contains(log, "unexpected EOF") && strings.Contains(log, "request_id")
		})
	}
}

// A service may answer before it has read a body that goes through.
func TestAnswerBeforeTheBody(t *testing.T) {
	g := setup(t, nil, service(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		httpserver.WriteProblem(w, httpserver.NewProblem(415, httpserver.CodeUnsupportedMediaType, "no such type"))
	}))
	for _, size := range []int{smallBody, smallBody + 1, 200 << 10} {
		request := newRequest(t, "POST", g.url+"/api/v1/orders", strings.NewReader(strings.Repeat("x", size)))
		if response, body, problem := g.do(t, request); response.StatusCode != 415 || problem.Detail != "no such type" {
			t.Errorf("%d bytes: %s %s", size, response.Status, body)
		}
	}
}

func TestBodyIsNotReadWhenTheRequestIsOver(t *testing.T) {
	b := &body{reader: strings.NewReader("rest")}
	if _, err := io.ReadFull(b, make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	b.Close()
	if n, err := b.Read(make([]byte, 2)); n != 0 || !errors.Is(err, http.ErrBodyReadAfterClose) {
		t.Errorf("%d, %v", n, err)
	}
}
