package edge

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/httpserver"
)

const (
	attackPath   = "/api/v1/orders/attack"
	smuggledPath = "/api/v1/orders/smuggled"
	smuggled     = "GET " + smuggledPath + " HTTP/1.1\r\nHost: localhost\r\nX: x"
)

// referee is a service that reads requests strictly by RFC 9112, and keeps count of them. It answers each with its
// path. Whatever can be read in two ways is a fault of who has sent it.
type referee struct {
	mu     sync.Mutex
	paths  []string
	faults []string
}

func (s *referee) add(path string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if path != "" {
		s.paths = append(s.paths, path)
	}
	if err != nil {
		s.faults = append(s.faults, err.Error())
	}
}

// take returns what has come since it was asked last.
func (s *referee) take() (paths, faults []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	paths, faults, s.paths, s.faults = s.paths, s.faults, nil, nil
	return paths, faults
}

// listen serves on a port of its own and returns the URL.
func (s *referee) listen(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var connections sync.WaitGroup
	connections.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(time.Minute))
				for in := bufio.NewReader(c); ; {
					path, err := readStrictly(in)
					if path == "" && errors.Is(err, io.EOF) {
						return
					}
					s.add(path, err)
					if err != nil {
						return
					}
					fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(path), path)
				}
			})
		}
	})
	t.Cleanup(func() { listener.Close(); connections.Wait() })
	return "http://" + listener.Addr().String()
}

var (
	requestLine = regexp.MustCompile(`^[A-Za-z]+ (/[!-~]*) HTTP/1\.1$`)
	headerLine  = regexp.MustCompile("^([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([ -~\t]*)$")
	digits      = regexp.MustCompile(`^(0|[1-9][0-9]*)$`)
)

// readStrictly reads one request and returns its path.
func readStrictly(in *bufio.Reader) (string, error) {
	line := func() (string, error) {
		text, err := in.ReadString('\n')
		if err != nil {
			return "", err
		}
		text, ok := strings.CutSuffix(text, "\r\n")
		if !ok || strings.ContainsRune(text, '\r') {
			return "", fmt.Errorf("a line ends in another way: %q", text)
		}
		return text, nil
	}
	first, err := line()
	if err != nil {
		return "", err
	}
	parts := requestLine.FindStringSubmatch(first)
	if parts == nil {
		return "", fmt.Errorf("request line %q", first)
	}
	length, chunked := "", false
	for {
		text, err := line()
		if err != nil {
			return parts[1], fmt.Errorf("header: %w", err)
		}
		if text == "" {
			break
		}
		header := headerLine.FindStringSubmatch(text)
		if header == nil {
			return parts[1], fmt.Errorf("header %q", text)
		}
		switch name, value := strings.ToLower(header[1]), header[2]; name {
		case "content-length":
			if length != "" || !digits.MatchString(value) {
				return parts[1], fmt.Errorf("a second length, or %q", value)
			}
			length = value
		case "transfer-encoding":
			if chunked || value != "chunked" {
				return parts[1], fmt.Errorf("a second encoding, or %q", value)
			}
			chunked = true
		}
	}
	switch {
	case chunked && length != "":
		return parts[1], errors.New("both a length and an encoding")
	case chunked:
		if _, err := io.Copy(io.Discard, httputil.NewChunkedReader(in)); err != nil {
			return parts[1], err
		}
		if end, err := line(); err != nil || end != "" {
			return parts[1], fmt.Errorf("trailer %q: %w", end, err)
		}
	case length != "":
		n, err := strconv.ParseInt(length, 10, 64)
		if err == nil {
			_, err = io.CopyN(io.Discard, in, n)
		}
		return parts[1], err
	}
	return parts[1], nil
}

// spellings of Transfer-Encoding that some servers read as chunked, and others do not.
var spellings = []string{
	"Transfer-Encoding: chunked", "Transfer-Encoding: Chunked", "Transfer-Encoding: CHUNKED", "transfer-encoding:chunked",
	"TRANSFER-ENCODING: chunked", "Transfer-Encoding:  chunked", "Transfer-Encoding:\tchunked",
	"Transfer-Encoding: chunked ", "Transfer-Encoding: chunked\t", "Transfer-Encoding : chunked",
	"Transfer-Encoding\t: chunked", " Transfer-Encoding: chunked", "\tTransfer-Encoding: chunked",
	"Transfer-Encoding:\x0bchunked", "Transfer-Encoding: chunked\x0b", "Transfer-Encoding:\x0cchunked",
	"Transfer-Encoding: \x00chunked", "Transfer-Encoding: chunk\x00ed", "Transfer-Encoding: xchunked",
	"Transfer-Encoding: chunkedx", "Transfer-Encoding: x, chunked", "Transfer-Encoding: chunked, x",
	"Transfer-Encoding: chunked, chunked", "Transfer-Encoding: identity", "Transfer-Encoding: chunked, identity",
	"Transfer-Encoding: identity, chunked", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: \"chunked\"",
	"Transfer-Encoding: 'chunked'", "Transfer-Encoding: chunked;q=1", "Transfer-Encoding:", "Transfer-Encoding: ,chunked",
	"Transfer_Encoding: chunked", "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
	"Transfer-Encoding: x\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
	"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", "Transfer-Encoding:\r\n chunked",
	"Transfer-Encoding:\n chunked", "Transfer-Encoding: x\r\n chunked", "X: x\nTransfer-Encoding: chunked",
	"X: x\rTransfer-Encoding: chunked", "X: x\r\n\rTransfer-Encoding: chunked", "Transfer-Encoding\n: chunked",
	"Transfer-Encoding: chunked\r", "Transfer-\xc4\x80ncoding: chunked", "Transfer-Encoding: \xefchunked",
	"Content-Encoding: chunked", "TE: chunked", "Connection: Transfer-Encoding",
}

// inOrder are attacks in which the length alone counts, as a folded line, another header or no header at all says
// nothing of the body (RFC 9112): what follows the body is a request of its own, and everybody has to read it so.
var inOrder = map[string]bool{
	"TE.CL  Transfer-Encoding: chunked": true, "TE.CL \tTransfer-Encoding: chunked": true,
	"TE.CL Transfer_Encoding: chunked": true, "TE.CL Content-Encoding: chunked": true, "TE.CL TE: chunked": true,
	"TE.CL Connection: Transfer-Encoding": true, "length  Content-Length: 5": true, "length Content-Length:\n 5": true,
}

// attacks are bytes that a client sends at once.
func attacks() map[string]string {
	head := "POST " + attackPath + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
	all := map[string]string{}
	for _, te := range spellings {
		// The length covers what follows the last chunk; or it ends in the midst of a chunk.
		ends := "0\r\n\r\n" + smuggled
		all["CL.TE "+te] = head + fmt.Sprintf("Content-Length: %d\r\n%s\r\n\r\n%s", len(ends), te, ends)
		chunk := fmt.Sprintf("%x\r\n", len(smuggled)+4)
		inside := chunk + smuggled + "\r\n\r\n\r\n0\r\n\r\n"
		all["TE.CL "+te] = head + fmt.Sprintf("%s\r\nContent-Length: %d\r\n\r\n%s", te, len(chunk), inside)
	}
	for _, length := range []string{
		"Content-Length: 5\r\nContent-Length: 6", "Content-Length: 6\r\nContent-Length: 5", "Content-Length: 5, 6",
		"Content-Length: 5, 5", "Content-Length: +5", "Content-Length: -5", "Content-Length: 0x5", "Content-Length: 5 5",
		"Content-Length: 5\r\n 6", "Content-Length : 5", "Content-Length\t: 5", " Content-Length: 5",
		"Content-Length: 5\x0b",
		"Content-Length: \x00", "Content-Length:\n 5", "Content-Length: 5e0", "Content-Length: 5.0", "Content-Length: ٥",
		"Content-Length: 18446744073709551621", "Content-Length: 9223372036854775808",
		"Content-Length:", "Content-Length: ,5",
		"X: x\rContent-Length: 5", "X: x\r\n\rContent-Length: 5", "Content-Length: 5\r\nContent-Length:",
	} {
		// For who reads 5, a request follows; for who reads 0 or an error, nothing may.
		all["length "+length] = head + length + "\r\n\r\n" + "hello" + smuggled + "\r\n\r\n"
	}
	for name, chunks := range map[string]string{
		"bare LF after the size":      "5\nhello\r\n0\r\n\r\n",
		"bare LF in an extension":     "5;x\nhello\r\n0\r\n\r\n",
		"bare LF after the data":      "5\r\nhello\n0\r\n\r\n",
		"no end of the data":          "5\r\nhello0\r\n\r\n",
		"bare CR":                     "5\rhello\r\n0\r\n\r\n",
		"extension with LF and size":  "5;a\n3\r\nabc\r\n0\r\n\r\n",
		"long extension":              "5;" + strings.Repeat("x", 32<<10) + "\r\nhello\r\n0\r\n\r\n",
		"many small extensions":       strings.Repeat("1;"+strings.Repeat("x", 500)+"\r\na\r\n", 100) + "0\r\n\r\n",
		"negative":                    "-5\r\nhello\r\n0\r\n\r\n",
		"prefixed":                    "0x5\r\nhello\r\n0\r\n\r\n",
		"signed":                      "+5\r\nhello\r\n0\r\n\r\n",
		"spaced":                      " 5\r\nhello\r\n0\r\n\r\n",
		"overflowing":                 "fffffffffffffffff5\r\nhello\r\n0\r\n\r\n",
		"underscored":                 "5_\r\nhello\r\n0\r\n\r\n",
		"empty size":                  "\r\nhello\r\n0\r\n\r\n",
		"trailer with a length":       "5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n",
		"trailer with a bad name":     "5\r\nhello\r\n0\r\nX : x\r\n\r\n",
		"extension":                   "5;a=b\r\nhello\r\n0\r\n\r\n",
		"quoted extension":            "5;a=\"\r\nhello\"\r\n0\r\n\r\n",
		"a request behind the chunks": "5\r\nhello\r\n0\r\n\r\n",
	} {
		all["chunks: "+name] = head + "Transfer-Encoding: chunked\r\n\r\n" + chunks + smuggled + "\r\n\r\n"
	}
	inBody := fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(smuggled)+4, smuggled+"\r\n\r\n")
	maps.Copy(all, map[string]string{
		"obs-fold":              head + "X: a\r\n " + smuggledPath + "\r\n" + inBody,
		"fold of the first":     "POST " + attackPath + " HTTP/1.1\r\n X: x\r\nHost: localhost\r\n" + inBody,
		"bare LF everywhere":    strings.ReplaceAll(head+"Content-Length: 0\r\n\r\n", "\r\n", "\n"),
		"bare CR in a value":    head + "X: a\rb\r\n" + inBody,
		"NUL in a value":        head + "X: a\x00b\r\n" + inBody,
		"space before a colon":  head + "X : a\r\n" + inBody,
		"no colon":              head + "X\r\n" + inBody,
		"body of a GET":         "GET " + attackPath + " HTTP/1.1\r\nHost: localhost\r\n" + inBody,
		"body of a bad path":    "POST /api/v1/orders/../x HTTP/1.1\r\nHost: localhost\r\n" + inBody,
		"body of a foreign one": "POST " + attackPath + " HTTP/1.1\r\nHost: evil.example\r\n" + inBody,
		"body that is awaited":  head + "Expect: 100-continue\r\n" + inBody,
		"other expectation":     head + "Expect: y 100-continue\r\n" + inBody,
		"old version": "POST " + attackPath + " HTTP/1.0\r\nConnection: keep-alive\r\n" +
			"Transfer-Encoding: chunked\r\n" + inBody,
		"version 1.2":      "POST " + attackPath + " HTTP/1.2\r\nHost: localhost\r\n" + inBody,
		"version 0.9":      "POST " + attackPath + "\r\n" + inBody,
		"two hosts":        head + "Host: evil.example\r\n" + inBody,
		"two spaces":       "POST  " + attackPath + " HTTP/1.1\r\nHost: localhost\r\n" + inBody,
		"tabs":             "POST\t" + attackPath + "\tHTTP/1.1\r\nHost: localhost\r\n" + inBody,
		"LF in the target": "GET /api/v1/orders/a\nX HTTP/1.1\r\nHost: localhost\r\n" + inBody,
		"CRLF encoded":     "GET /api/v1/orders/a%20HTTP/1.1%0d%0aX:x HTTP/1.1\r\nHost: localhost\r\n" + inBody,
		"absolute form":    "POST http://localhost" + attackPath + " HTTP/1.1\r\nHost: localhost\r\n" + inBody,
		"absolute, host differs": "POST http://localhost" + attackPath + " HTTP/1.1\r\nHost: evil.example\r\n" +
			inBody,
		"absolute to others": "POST http://evil.example" + attackPath + " HTTP/1.1\r\nHost: localhost\r\n" + inBody,
		"authority form":     "CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n" + inBody,
		"asterisk":           "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n" + inBody,
		"double slash":       "POST //evil.example" + attackPath + " HTTP/1.1\r\nHost: localhost\r\n" + inBody,
		"upgrade": head + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n" +
			inBody,
		"method override": head + "X-HTTP-Method-Override: GET " + smuggledPath + "\r\n" + inBody,
		"length dropped":  head + "Connection: Content-Length\r\n" + inBody,
	})
	return all
}

// TestNothingIsSmuggled sends each attack to the gateway and to a server as the services have it. Neither sees what is
// hidden in it, what the gateway sends on can be read in one way, and everybody else gets their own answers.
func TestNothingIsSmuggled(t *testing.T) {
	judge := new(referee)
	gateway := setup(t, nil, judge.listen(t))
	direct := new(referee)
	router := httpserver.NewRouter(httpserver.Options{
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	router.Handle("/*", httpserver.Handle(func(w http.ResponseWriter, r *http.Request) error {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return httpserver.BodyProblem(err)
		}
		direct.add(r.URL.Path, nil)
		_, err := io.WriteString(w, r.URL.Path)
		return err
	}))
	for name, target := range map[string]struct {
		url  string
		seen *referee
	}{"gateway": {gateway.url, judge}, "service": {serveAlone(t, router), direct}} {
		t.Run(name, func(t *testing.T) {
			victims := new(http.Client)
			defer victims.CloseIdleConnections()
			for attack, text := range attacks() {
				statuses := send(t, target.url, text)
				victim := "/api/v1/orders/" + strconv.Itoa(len(attack))
				if answer, err := victims.Get(target.url + victim); err != nil {
					t.Errorf("%q: the next client: %v", attack, err)
				} else {
					body, _ := io.ReadAll(answer.Body)
					answer.Body.Close()
					if string(body) != victim {
						t.Errorf("%q: the next client gets %s %q", attack, answer.Status, body)
					}
				}
				paths, faults := target.seen.take()
				served := 0
				for _, status := range statuses {
					if status == http.StatusOK {
						served++
					}
				}
				found := slices.Contains(paths, smuggledPath)
				if len(faults) > 0 || found && !inOrder[attack] || len(paths) > served+1 {
					t.Errorf("%q is answered with %v: the service sees %q, faults %q", attack, statuses, paths, faults)
				}
			}
		})
	}
}

// TestRequestsInARow shows that the test above would see what is smuggled: here the client asks for it.
func TestRequestsInARow(t *testing.T) {
	judge := new(referee)
	gateway := setup(t, nil, judge.listen(t))
	statuses := send(t, gateway.url, "POST "+attackPath+" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"+
		smuggled+"\r\n\r\n")
	if paths, _ := judge.take(); len(statuses) != 3 || len(paths) != 3 || paths[1] != smuggledPath {
		t.Errorf("%v: %q", statuses, paths)
	}
}

// serveAlone serves a handler as the services do, and returns the URL.
func serveAlone(t *testing.T, handler chi.Router) string {
	t.Helper()
	listening, done := make(chan string, 1), make(chan error, 1)
	ctx := t.Context()
	go func() {
		done <- httpserver.Run(ctx, httpserver.Server{Name: "service", Addr: "127.0.0.1:0", Handler: handler, H2C: true,
			Logger: slog.New(slog.DiscardHandler), Listening: func(addr net.Addr) { listening <- addr.String() }})
	}()
	t.Cleanup(func() { // t's context ends before
		<-done
	})
	return "http://" + <-listening
}

// sentinel is a request that follows an attack on its connection. It completes what was hidden there.
const sentinel = "GET /api/v1/orders/sentinel HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

// send sends bytes, and the sentinel once they were answered. It returns the statuses of the answers.
func send(t *testing.T, url, text string) (statuses []int) {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second)) // after the server's own
	// Where the server waits for more, there is no more.
	defer time.AfterFunc(3*time.Second, func() { _ = c.(*net.TCPConn).CloseWrite() }).Stop()
	_, _ = io.WriteString(c, text) // It may be refused before its end.
	for in := bufio.NewReader(c); ; {
		answer, err := http.ReadResponse(in, nil)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%.200q: the connection is open still", text)
		}
		if err != nil {
			return statuses
		}
		_, _ = io.Copy(io.Discard, answer.Body) // It may be cut off by what the server does not read any more.
		if answer.StatusCode < 200 {
			continue
		}
		if len(statuses) == 0 {
			_, _ = io.WriteString(c, sentinel)
		}
		statuses = append(statuses, answer.StatusCode)
	}
}

// TestThousandsOfIdleConnections opens as many connections as the machine allows, up to 10,000, that send nothing or
// half a header. Meanwhile others are served; all are closed in time, and take little memory.
func TestThousandsOfIdleConnections(t *testing.T) {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	const spare, ends = 1000, 2 // of each connection, both are here
	n := int(min(10_000, (files.Cur-spare)/ends))
	gateway := setup(t, nil, service(t, func(http.ResponseWriter, *http.Request) {}))
	before := memory()
	connections := make([]net.Conn, n)
	begin := time.Now()
	for i := range connections {
		c, err := net.Dial("tcp", strings.TrimPrefix(gateway.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if i%2 == 1 {
			_, _ = io.WriteString(c, "GET "+attackPath+" HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
		}
		connections[i] = c
		if i%1000 == 0 {
			answer, err := gateway.Get(gateway.url + attackPath)
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
		}
	}
	if per := (memory() - before) / int64(n); per > 32<<10 {
		t.Errorf("an idle connection takes %d bytes", per)
	}
	for _, c := range connections {
		_ = c.SetReadDeadline(begin.Add(30 * time.Second))
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("a connection is open still")
		}
	}
	t.Logf("%d connections were closed after %s", n, time.Since(begin))
}

// memory is what lives, with the stacks.
func memory() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc + stats.StackInuse)
}
