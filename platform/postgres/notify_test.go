package postgres_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

const patience = 30 * time.Second

// ear is a Listen that runs until the test is over, or is stopped.
type ear struct {
	texts  chan string
	states chan bool // of listening
	stop   func() error
}

func listen(t *testing.T, cfg pg.Config) *ear {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	e, done := &ear{texts: make(chan string, 1000), states: make(chan bool, 100)}, make(chan error, 1)
	go func() {
		done <- pg.Listen(ctx, cfg, "things", slog.New(slog.DiscardHandler),
			func(text string) { e.texts <- text }, func(now bool) { e.states <- now })
	}()
	e.stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		if err := e.stop(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// await waits until it is listening, or until it is not.
func (e *ear) await(t *testing.T, listening bool) {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case state := <-e.states:
			if state == listening {
				return
			}
		case <-deadline:
			t.Fatalf("listening %v has not come", listening)
		}
	}
}

func (e *ear) expect(t *testing.T, texts ...string) {
	t.Helper()
	for _, want := range texts {
		select {
		case got := <-e.texts:
			if got != want {
				t.Fatalf("heard %.20q instead of %.20q", got, want)
			}
		case <-time.After(patience):
			t.Fatalf("%.20q was not heard", want)
		}
	}
}

const pgNotify = `SELECT pg_notify($1, text) FROM unnest($2::text[]) AS text`

func notify(t *testing.T, db *sqlx.DB, channel string, texts ...string) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), pgNotify, channel, pg.Texts(texts)); err != nil {
		t.Fatal(err)
	}
}

func TestListenHearsWhatIsCommitted(t *testing.T) {
	t.Parallel()
	db := postgrestest.Database(t, "orders", things)
	first, second := listen(t, db.Config), listen(t, db.Config)
	first.await(t, true)
	second.await(t, true)

	refusal := errors.New("refused")
	if err := pg.InTx(t.Context(), db.Service, func(tx *sqlx.Tx) error {
		if _, err := tx.ExecContext(t.Context(), pgNotify, "things", pg.Texts{"rolled back"}); err != nil {
			return err
		}
		return refusal
	}); !errors.Is(err, refusal) {
		t.Fatal(err)
	}
	notify(t, db.Service, "others", "of another channel")
	notify(t, db.Service, "things")
	long := strings.Repeat("x", 7999)
	notify(t, db.Service, "things", "a", long, "ё 'quoted'")
	first.expect(t, "a", long, "ё 'quoted'")
	second.expect(t, "a", long, "ё 'quoted'")

	// Many, without anybody who takes them for a while.
	var many []string
	for i := range 300 {
		many = append(many, strings.Repeat("y", i+1))
	}
	notify(t, db.Service, "things", many...)
	first.expect(t, many...)
}

// wire is a connection to the database that a test can cut.
type wire struct {
	net.Listener
	to string

	mu    sync.Mutex
	conns []net.Conn
	dead  bool // new connections are cut too
}

// wired is the configuration of the same database on the other end of a wire.
func wired(t *testing.T, cfg pg.Config) (*wire, pg.Config) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{Listener: listener, to: cfg.Address()}
	var pumps sync.WaitGroup
	pumps.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", w.to)
			if err != nil {
				t.Error(err)
			}
			w.mu.Lock()
			w.conns = append(w.conns, client, server)
			dead := w.dead
			w.mu.Unlock()
			if dead {
				w.cut(true)
			}
			for _, pair := range [][2]net.Conn{{client, server}, {server, client}} {
				pumps.Go(func() { _, _ = io.Copy(pair[0], pair[1]); pair[0].Close() })
			}
		}
	})
	t.Cleanup(func() { listener.Close(); w.cut(true); pumps.Wait() })
	cfg.Port = uint16(listener.Addr().(*net.TCPAddr).Port)
	return w, cfg
}

func (w *wire) cut(dead bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dead = dead
	for _, conn := range w.conns {
		conn.Close()
	}
	w.conns = nil
}

func TestListenComesBack(t *testing.T) {
	t.Parallel()
	db := postgrestest.Database(t, "orders", things)
	w, cfg := wired(t, db.Config)
	w.cut(true)
	e := listen(t, cfg) // while the server is away
	e.await(t, false)
	w.cut(false)
	e.await(t, true)
	notify(t, db.Service, "things", "one")
	e.expect(t, "one")
	for _, dead := range []bool{false, true} { // a connection that breaks; a server that is away for a while
		w.cut(dead)
		e.await(t, false)
		notify(t, db.Service, "things", "which nobody hears")
		w.cut(false)
		e.await(t, true)
		notify(t, db.Service, "things", "another")
		for text := range e.texts { // the one before may be heard after all
			if text == "another" {
				break
			}
		}
	}
	w.cut(true)
	began := time.Now()
	if err := e.stop(); err != nil || time.Since(began) > 10*time.Second {
		t.Errorf("it ended with %v after %s", err, time.Since(began))
	}
}

// What the environment says of PostgreSQL is not meant for a service, which has settings of its own.
func TestListenKeepsToItsConfiguration(t *testing.T) {
	db := postgrestest.Database(t, "orders", things)
	t.Setenv("PGHOSTADDR", "203.0.113.1")
	t.Setenv("PGDATABASE", "postgres")
	e := listen(t, db.Config)
	e.await(t, true)
	notify(t, db.Service, "things", "heard")
	e.expect(t, "heard")
}
