// Package localkafka runs a Kafka broker on this machine without an installation, for tests, the benchmark, and the
// full stack where there is no container engine.
//
// With Java 17 and Maven it is Apache Kafka itself, fetched once and kept in the user's cache folder. Elsewhere it is
// an embedded broker that speaks the same protocol and keeps its log on disk, but is one process without replicas,
// good for development only. With both, data survive a restart and a crash. A data folder remembers which broker made
// it. A broker never outlives the process that started it, not even after kill -9.
package localkafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/tlsfiles"
	"github.com/altyn-pay/altyn/testkit/internal/local"
)

// Kind is which broker runs.
type Kind string

// The kinds.
const (
	Apache   Kind = "apache"
	Embedded Kind = "embedded"
)

// In the broker's folder are its data, and a file that names its kind.
const (
	dataFolder = "data"
	markFile   = "broker"
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
	Port uint16
	// Users are names and passwords, letters and digits, of Apache alone. With any, a client must be one of them, by
	// SCRAM-SHA-512, and may do what ACLs allow it; the user Admin, who must be there, may do everything.
	Users map[string]string
	// TLS, of Apache alone and without Users, are the broker's certificate and the authority of which clients must have
	// one. Config shows the broker's own.
	TLS tlsfiles.Files
	// Node makes the broker one of several, of Apache alone.
	Node Node
	// Listeners are further ones, of Apache alone.
	Listeners []Listener
	// Log receives the broker's log; nil drops it. Errors contain the end of the log either way.
	Log io.Writer
	// Progress is told of what takes long, such as fetching; nil for silence.
	Progress func(string)
}

// Node is a broker's place in a cluster, of which every broker is a controller too. A start returns once most of the
// cluster has been started.
type Node struct {
	ID          int      // from 1
	Controllers []uint16 // the ports on which the controllers of all brokers talk, in the order of their IDs
}

// Listener is one whose clients are told that the broker is elsewhere, behind a proxy for example.
type Listener struct {
	Port       uint16 // on 127.0.0.1
	Advertised string // host:port
	Brokers    bool   // the other brokers of the cluster are such clients
}

// MaxReplicas is how many brokers of a cluster keep what Kafka itself stores, and should keep a partition.
const MaxReplicas = 3

// Admin is the name of the user who may do everything.
const Admin = "admin"

// Broker is a running broker.
type Broker struct {
	*local.Server
	Kind    Kind
	DataDir string

	users map[string]string
	tls   tlsfiles.Files
}

// Start returns a broker that answers. It ends with Stop or with this process; ctx bounds only the start.
func Start(ctx context.Context, opts Options) (*Broker, error) {
	b, err := start(ctx, opts)
	if err != nil {
		return nil, fmt.Errorf("localkafka: %w", err)
	}
	return b, nil
}

func start(ctx context.Context, opts Options) (_ *Broker, err error) {
	if opts.Progress == nil {
		opts.Progress = func(string) {}
	}
	path, err := filepath.Abs(opts.DataDir)
	if opts.DataDir == "" {
		path, err = os.MkdirTemp("", "altyn-kafka-")
	}
	if err == nil {
		err = os.MkdirAll(path, 0o755)
	}
	if err != nil {
		return nil, err
	}
	folder, err := local.Open(ctx, path, opts.DataDir == "", syscall.SIGKILL)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = folder.Close()
		}
	}()
	kind, command, err := choose(ctx, opts, path)
	if err != nil {
		return nil, err
	}
	if _, err := local.FreePort(ctx, opts.Port); err != nil { // known before the data are made
		return nil, err
	}
	if err := claim(path, kind); err != nil {
		return nil, err
	}
	b := &Broker{Kind: kind, DataDir: path, users: opts.Users, tls: opts.TLS}
	b.Server, err = folder.Run(ctx, opts.Port, local.Program{
		Log:     opts.Log,
		Command: func(port uint16) (*exec.Cmd, error) { return command(path, port) },
		Ready: func(ctx context.Context, _ int, port uint16) bool {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			return kafka.Ping(ctx, b.as(Admin, port)) == nil
		},
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", b, err)
	}
	return b, nil
}

// choose decides which broker runs on the data, and fetches it where needed.
func choose(ctx context.Context, opts Options, path string) (Kind, func(string, uint16) (*exec.Cmd, error), error) {
	asked := opts.Kind
	if asked == "" {
		asked = Kind(os.Getenv("KAFKA"))
	}
	owner, err := owner(path)
	switch {
	case err != nil:
		return "", nil, err
	case asked == "":
		asked = owner
	case asked != Apache && asked != Embedded:
		return "", nil, fmt.Errorf("KAFKA=%s is none of %s, %s", asked, Apache, Embedded)
	}
	if owner != "" && asked != owner {
		return "", nil, fmt.Errorf("the data in %s are those of the broker KAFKA=%s, which KAFKA=%s cannot read: set "+
			"KAFKA=%s, or delete the folder", path, owner, asked, owner)
	}
	onlyApache := len(opts.Users) > 0 || opts.TLS != tlsfiles.Files{} || opts.Node.ID > 0 || len(opts.Listeners) > 0
	if onlyApache && asked == Embedded {
		return "", nil, errors.New("the embedded broker has no users, no TLS, no further listeners, and is alone")
	}
	if asked != Embedded {
		apache, err := findApache(ctx, opts.Progress)
		if err == nil {
			apache.users, apache.tls, apache.node, apache.listeners = opts.Users, opts.TLS, opts.Node, opts.Listeners
			return Apache, apache.command, nil
		}
		if asked == Apache || onlyApache {
			return "", nil, err
		}
		opts.Progress(fmt.Sprintf("Apache Kafka cannot run here (%v); the embedded broker, which is for development, "+
			"takes its place", err))
	}
	return Embedded, embedded, nil
}

// owner returns the broker that made the data; empty if there are none.
func owner(path string) (Kind, error) {
	content, err := os.ReadFile(filepath.Join(path, markFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if kind := Kind(strings.TrimSpace(string(content))); err != nil || kind == Apache || kind == Embedded {
		return kind, err
	}
	return "", fmt.Errorf("the file %s in %s names no broker: %q; delete the folder", markFile, path, content)
}

// claim writes down which broker makes the data.
func claim(path string, kind Kind) error {
	mark := filepath.Join(path, markFile)
	if err := os.WriteFile(mark+".new", []byte(kind+"\n"), 0o644); err != nil {
		return err
	}
	return os.Rename(mark+".new", mark)
}

// String says which broker this is.
func (b *Broker) String() string {
	if b.Kind == Apache {
		return "Apache Kafka " + apacheVersion
	}
	return "the embedded Kafka broker (for development)"
}

// Addr is where the broker listens, host:port.
func (b *Broker) Addr() string { return local.Address(b.Port) }

// Config is how to reach the broker; where it has users, as the administrator.
func (b *Broker) Config() kafka.Config { return b.As(Admin) }

// As is how a user reaches the broker.
func (b *Broker) As(user string) kafka.Config { return b.as(user, b.Port) }

func (b *Broker) as(user string, port uint16) kafka.Config {
	cfg := config(port)
	if len(b.users) > 0 {
		cfg.SASLMechanism, cfg.SASLUser, cfg.SASLPassword = "scram-sha-512", user, b.users[user]
	}
	if b.tls.Cert != "" {
		cfg.TLS, cfg.TLSCA, cfg.TLSCert, cfg.TLSKey = "true", b.tls.CA, b.tls.Cert, b.tls.Key
	}
	return cfg
}

func config(port uint16) kafka.Config {
	addresses := []string{local.Address(port)}
	return kafka.Config{Brokers: addresses, Partitions: 4, ReplicationFactor: 1, Retention: 30 * 24 * time.Hour}
}

// Kill ends the broker with SIGKILL.
func (b *Broker) Kill() error { return b.Server.Stop(syscall.SIGKILL) }

// Stop shuts the broker down, and kills it after 30 s.
func (b *Broker) Stop() error { return b.Server.Stop(syscall.SIGTERM) }

// These variables make a process the embedded broker.
const (
	childPort = "ALTYN_LOCALKAFKA_PORT"
	childData = "ALTYN_LOCALKAFKA_DATA"
)

// hooked says that Child was called, so that this program can be started again as a broker.
var hooked bool

// Child must come first in main or TestMain of a program that starts an embedded broker. That is the same program once
// more, in a process of its own; there, Child runs the broker and does not return.
func Child() {
	port, err := strconv.Atoi(os.Getenv(childPort))
	if err != nil {
		hooked = true
		return
	}
	ctx, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	cluster, err := kfake.NewCluster(
		kfake.NumBrokers(1), kfake.Ports(port), kfake.ClusterID("altyn"),
		kfake.DataDir(os.Getenv(childData)), kfake.SyncWrites(),
		kfake.BrokerConfigs(map[string]string{"offsets.retention.minutes": strconv.Itoa(offsetsRetentionMinutes)}),
		kfake.WithLogger(kfake.BasicLogger(os.Stderr, kfake.LogLevelError)),
	)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	<-ctx.Done()
	cluster.Close()
	os.Exit(0)
}

func embedded(folder string, port uint16) (*exec.Cmd, error) {
	if !hooked {
		return nil, errors.New("main (or TestMain) must call localkafka.Child first, for an embedded broker")
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	data := filepath.Join(folder, dataFolder)
	cmd := exec.Command(program, data) // the argument is for local.Program
	cmd.Env = append(os.Environ(), childPort+"="+strconv.Itoa(int(port)), childData+"="+data)
	return cmd, nil
}
