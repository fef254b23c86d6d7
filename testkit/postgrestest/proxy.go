package postgrestest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// Moment is when a Proxy loses the connection of a transaction.
type Moment int

// To the client both moments look alike.
const (
	BeforeCommit Moment = iota // the server has not been told to commit, and rolls back
	AfterCommit                // the server has committed, and its answer is lost
)

// Proxy stands between a service and PostgreSQL and loses connections at the worst moments. It reads enough of the
// wire protocol (PostgreSQL's documentation, chapter 54) to know when a client commits what.
type Proxy struct {
	Config pg.Config // that of the database, by way of the proxy
	server string

	mu      sync.Mutex
	loss    *loss
	away    bool
	clients map[net.Conn]bool
	opened  int
	watched bool
	works   []work
}

// work is a transaction, or a single statement, that has ended.
type work struct {
	statements []string
	rows       int    // that they found or changed
	parameters string // of all statements, as they are sent
}

type loss struct {
	moment Moment
	part   string // of the text of a statement of the transaction
	left   int    // how many are still to be lost
	lost   chan struct{}
}

// Through puts a proxy before a test's database until the test ends.
func Through(t testing.TB, cfg pg.Config) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Config: cfg, server: cfg.Address(), clients: make(map[net.Conn]bool)}
	p.Config.Host, p.Config.Port = "127.0.0.1", uint16(listener.Addr().(*net.TCPAddr).Port)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { p.serve(client) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		p.Away(true)
		serving.Wait()
	})
	return p
}

// Lose drops the connections of the next n transactions, or single statements, that contain a statement with part in
// its text. The channel gets an element for each. The caller must receive them if there may be more than a thousand.
func (p *Proxy) Lose(moment Moment, part string, n int) (lost <-chan struct{}) {
	l := &loss{moment, part, n, make(chan struct{}, 1000)}
	p.mu.Lock()
	p.loss = l
	p.mu.Unlock()
	return l.lost
}

// Away ends all connections and refuses new ones, as if the server had died, until it is called with false.
func (p *Proxy) Away(away bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.away = away; away {
		for client := range p.clients {
			client.Close()
		}
	}
}

// Opened returns how many connections were made so far.
func (p *Proxy) Opened() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.opened
}

// Watch keeps from now on what PostgreSQL does.
func (p *Proxy) Watch() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watched = true
}

// About returns all that PostgreSQL did, since the call before, in transactions and single statements that have an ID
// among their parameters: the statements, and how many rows they found or changed.
func (p *Proxy) About(id uuid.UUID) (statements []string, rows int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.works {
		if strings.Contains(w.parameters, id.String()) || strings.Contains(w.parameters, string(id[:])) {
			statements, rows = append(statements, w.statements...), rows+w.rows
		}
	}
	p.works = nil
	return statements, rows
}

func (p *Proxy) done(w work) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.watched {
		p.works = append(p.works, w)
	}
}

// losing returns the loss that is due for a transaction with these statements, and counts it.
func (p *Proxy) losing(statements []string) *loss {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.loss
	if l == nil || l.left == 0 || !slices.ContainsFunc(statements, func(s string) bool {
		return strings.Contains(s, l.part)
	}) {
		return nil
	}
	l.left--
	return l
}

func (p *Proxy) serve(client net.Conn) {
	defer client.Close()
	p.mu.Lock()
	away := p.away
	if !away {
		p.clients[client] = true
		p.opened++
	}
	p.mu.Unlock()
	if away {
		return
	}
	defer func() {
		p.mu.Lock()
		delete(p.clients, client)
		p.mu.Unlock()
	}()
	server, err := net.Dial("tcp", p.server)
	if err != nil {
		return
	}
	defer server.Close()
	s := &session{proxy: p, client: client, server: server, prepared: map[string]string{}, status: 'I'}
	var back sync.WaitGroup
	back.Go(func() {
		defer client.Close()
		s.answers()
	})
	s.requests()
	server.Close()
	back.Wait()
}

// session is one connection.
type session struct {
	proxy          *Proxy
	client, server net.Conn
	prepared       map[string]string // statements by name

	mu         sync.Mutex
	status     byte     // as the server has said last: I, or T or E in a transaction
	statements []string // of the present transaction
	parameters []byte
	rows       int
	lost       *loss // the next answer is lost
}

var errLost, errHeld = errors.New("lost"), errors.New("held")

// requests passes on what the client sends.
func (s *session) requests() {
	// The first message has no type byte.
	if s.forward(s.client, s.server, 0, nil) != nil {
		return
	}
	for s.forward(s.client, s.server, 1, s.request) == nil {
	}
}

// answers passes on what the server sends.
func (s *session) answers() {
	for s.forward(s.server, s.client, 1, s.answer) == nil {
	}
}

// forward passes on one message, unless look ends the connection (errLost) or withholds the message (errHeld).
func (s *session) forward(from io.Reader, to io.Writer, typed int, look func(kind byte, body []byte) error) error {
	message := make([]byte, typed+4)
	if _, err := io.ReadFull(from, message); err != nil {
		return err
	}
	length := int(binary.BigEndian.Uint32(message[typed:])) - 4
	message = append(message, make([]byte, length)...)
	if _, err := io.ReadFull(from, message[typed+4:]); err != nil {
		return err
	}
	if look != nil {
		switch err := look(message[0], message[typed+4:]); {
		case errors.Is(err, errHeld):
			return nil
		case err != nil:
			return err
		}
	}
	_, err := to.Write(message)
	return err
}

func (s *session) request(kind byte, body []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := func() string {
		var word []byte
		word, body, _ = bytes.Cut(body, []byte{0})
		return string(word)
	}
	commits := false
	switch kind {
	case 'P': // Parse
		name := text()
		s.prepared[name] = text()
	case 'B': // Bind
		text()
		s.statements = append(s.statements, s.prepared[text()])
		s.parameters = append(s.parameters, body...)
	case 'Q':
		query := text()
		s.statements = append(s.statements, query)
		commits = s.status == 'I' || strings.HasPrefix(query, "COMMIT")
	case 'S': // Sync
		commits = s.status == 'I'
	}
	if !commits {
		return nil
	}
	l := s.proxy.losing(s.statements)
	switch {
	case l == nil:
	case l.moment == BeforeCommit:
		l.lost <- struct{}{}
		return errLost
	default:
		s.lost = l
	}
	return nil
}

func (s *session) answer(kind byte, body []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ready := kind == 'Z' // ReadyForQuery: by now it is committed
	if kind == 'C' {     // CommandComplete, such as SELECT 1; COMMIT has no number
		tag := strings.TrimRight(string(body), "\x00")
		if n, err := strconv.Atoi(tag[strings.LastIndexByte(tag, ' ')+1:]); err == nil {
			s.rows += n
		}
	}
	switch {
	case s.lost != nil && ready:
		s.lost.lost <- struct{}{}
		return errLost
	case s.lost != nil:
		return errHeld
	case !ready:
		return nil
	}
	if s.status = body[0]; s.status == 'I' {
		s.proxy.done(work{s.statements, s.rows, string(s.parameters)})
		s.statements, s.parameters, s.rows = nil, nil, 0
	}
	return nil
}
