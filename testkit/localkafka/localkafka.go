// Package localkafka runs a Kafka broker on this machine without an installation, for tests, the benchmark, and the
// full stack where there is no container engine.
//
// With Java 17 and Maven it is Apache Kafka itself, fetched once and kept in the user's cache folder. Elsewhere it is
// an embedded broker that speaks the same protocol and keeps its log on disk, but is one process without replicas,
// good for development only. With both, data survive a restart and a crash. A data folder remembers which broker made
// it.
//
// A broker never outlives the process that started it, not even after kill -9: a small shell script watches a pipe
// from that process and kills the broker when the pipe closes.
package localkafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/altyn-pay/altyn/platform/kafka"
)

// Kind is which broker runs.
type Kind string

// The kinds.
const (
	Apache   Kind = "apache"
	Embedded Kind = "embedded"
)

const (
	host = "127.0.0.1"

	// startTimeout bounds a start, including recovery after a crash but not fetching.
	startTimeout = 2 * time.Minute
	startTries   = 5
	stopTimeout  = 20 * time.Second
	pollInterval = 20 * time.Millisecond
)

// Options of Start. The zero value is whichever broker this machine can run, on a free port, with temporary data.
type Options struct {
	// Kind of the broker. Empty means what the environment variable KAFKA says; if that is empty too, the broker that
	// made the data; and if there are none, Apache with Embedded as the fallback.
	Kind Kind
	// DataDir keeps the data and is made if it does not exist. Empty means a temporary folder, which is deleted when the
	// broker ends, however it ends.
	DataDir string
	// Port on 127.0.0.1; 0 means any free one.
	Port int
	// InProcess runs the embedded broker in this process rather than in one of its own, where it cannot be killed.
	InProcess bool
	// Log receives the broker's log; nil drops it. Errors contain the end of the log either way.
	Log io.Writer
	// Progress is told of what takes long, such as fetching; nil for silence.
	Progress func(string)
}

// Broker is a running broker.
type Broker struct {
	Kind    Kind
	Port    int
	DataDir string

	opts   Options
	folder *folder
	launch func(port int) (running, error)

	mu      sync.Mutex
	running running
}

// running is a started broker: a process, or a part of this one.
type running interface {
	pid() int
	done() <-chan struct{}
	signal(syscall.Signal) error // has no effect once it is done
	log() string                 // its end
}

// Start returns a broker that answers. It ends with Stop or with this process; ctx bounds only the start.
func Start(ctx context.Context, opts Options) (_ *Broker, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("localkafka: %w", err)
		}
	}()
	if opts.Progress == nil {
		opts.Progress = func(string) {}
	}
	folder, err := openFolder(ctx, opts.DataDir)
	if err != nil {
		return nil, err
	}
	b := &Broker{DataDir: folder.path, opts: opts, folder: folder}
	defer func() {
		if err != nil {
			folder.close()
		}
	}()
	if err := b.choose(ctx); err != nil {
		return nil, err
	}
	if b.Port, err = choosePort(opts.Port); err != nil { // known before the data are made
		return nil, err
	}
	if err := folder.claim(b.Kind); err != nil {
		return nil, err
	}
	if err := b.start(ctx); err != nil {
		return nil, err
	}
	return b, nil
}

// choose decides which broker runs, and fetches it where needed.
func (b *Broker) choose(ctx context.Context) error {
	asked := b.opts.Kind
	if asked == "" {
		asked = Kind(os.Getenv("KAFKA"))
	}
	owner, err := b.folder.owner()
	if err != nil {
		return err
	}
	switch {
	case asked != "" && asked != Apache && asked != Embedded:
		return fmt.Errorf("KAFKA=%s is none of %s, %s", asked, Apache, Embedded)
	case b.opts.InProcess && asked == "":
		asked = Embedded
	case b.opts.InProcess && asked == Apache:
		return errors.New("the broker in this process can only be the embedded one, not Apache Kafka")
	case asked == "":
		asked = owner
	}
	if owner != "" && asked != owner {
		return fmt.Errorf("the data in %s are those of the broker KAFKA=%s, which KAFKA=%s cannot read: set KAFKA=%s, or "+
			"delete the folder",
			b.folder.path, owner, asked, owner)
	}
	if asked != Embedded {
		apache, err := findApache(ctx, b.opts.Progress)
		if err == nil {
			b.Kind = Apache
			b.launch = func(port int) (running, error) { return apache.launch(b.folder, port, b.opts.Log) }
			return nil
		}
		if asked == Apache {
			return err
		}
		b.opts.Progress(fmt.Sprintf("Apache Kafka cannot run here (%v); the embedded broker, which is for development, "+
			"takes its place", err))
	}
	b.Kind = Embedded
	b.launch = func(port int) (running, error) { return launchEmbedded(b.folder, port, b.opts.InProcess, b.opts.Log) }
	return nil
}

// start launches the broker and waits until it answers.
func (b *Broker) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for try := 1; ; try++ {
		running, err := b.launch(b.Port)
		if err != nil {
			return err
		}
		if err = b.await(ctx, running); err == nil {
			b.mu.Lock()
			b.running = running
			b.mu.Unlock()
			return nil
		}
		_ = running.signal(syscall.SIGKILL)
		<-running.done()
		end := running.log()
		// Another process was faster to take a port that was free.
		if again := strings.Contains(end, "ddress already in use"); !again || try == startTries {
			return fmt.Errorf("%s on port %d with the data in %s: %w; its log ends:\n%s", b, b.Port, b.DataDir, err, end)
		}
		if b.opts.Port == 0 && b.current() == nil { // it keeps its port across restarts
			if b.Port, err = choosePort(0); err != nil {
				return err
			}
		}
	}
}

func (b *Broker) await(ctx context.Context, running running) error {
	cfg := b.Config()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		select {
		case <-running.done():
			return errors.New("the broker ended at once")
		case <-ctx.Done():
			return fmt.Errorf("the broker was not ready in time: %w", ctx.Err())
		case <-poll.C:
		}
		ping, cancel := context.WithTimeout(ctx, time.Second)
		err := kafka.Ping(ping, cfg)
		cancel()
		if err == nil {
			return nil
		}
	}
}

// String says which broker this is.
func (b *Broker) String() string {
	if b.Kind == Apache {
		return "Apache Kafka " + apacheVersion
	}
	return "the embedded Kafka broker (for development)"
}

// Addr is where the broker listens, host:port.
func (b *Broker) Addr() string { return address(b.Port) }

// Config is how to reach the broker.
func (b *Broker) Config() kafka.Config {
	return kafka.Config{Brokers: []string{b.Addr()}, Partitions: 4, ReplicationFactor: 1, Retention: 30 * 24 * time.Hour}
}

// PID of the broker's process.
func (b *Broker) PID() int { return b.current().pid() }

// Done is closed when the broker has ended, whether by itself or not. After a restart there is a new channel.
func (b *Broker) Done() <-chan struct{} { return b.current().done() }

func (b *Broker) current() running {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.running
}

// Kill ends the broker with SIGKILL. It can be restarted.
func (b *Broker) Kill() error {
	if b.opts.InProcess {
		return errors.New("localkafka: a broker in this process cannot be killed")
	}
	return b.end(syscall.SIGKILL)
}

// Restart starts the broker again on the same port and data. It first stops one that runs.
func (b *Broker) Restart(ctx context.Context) error {
	if err := b.end(syscall.SIGTERM); err != nil {
		return err
	}
	if err := b.start(ctx); err != nil {
		return fmt.Errorf("localkafka: restart: %w", err)
	}
	return nil
}

// Stop shuts the broker down for good, and kills it after 20 s.
func (b *Broker) Stop() error {
	err := b.end(syscall.SIGTERM)
	b.folder.close()
	return err
}

func (b *Broker) end(signal syscall.Signal) error {
	running := b.current()
	for _, signal := range []syscall.Signal{signal, syscall.SIGKILL} {
		if err := running.signal(signal); err != nil {
			return fmt.Errorf("localkafka: end %s: %w", b, err)
		}
		select {
		case <-running.done():
			return nil
		case <-time.After(stopTimeout):
		}
	}
	return fmt.Errorf("localkafka: %s does not end", b)
}

// choosePort returns the port if nobody listens there; for 0 it returns any free one. Do not call it twice for one
// port in quick succession: a process that is forked in between inherits the listener until it executes its program.
func choosePort(port int) (int, error) {
	listener, err := net.Listen("tcp", address(port))
	if err != nil {
		return 0, fmt.Errorf("port %d is not free: %w", port, err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

func address(port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }
