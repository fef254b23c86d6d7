package localkafka

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/altyn-pay/altyn/testkit/internal/logtail"
)

// These variables make a process the embedded broker.
const (
	childPort = "ALTYN_LOCALKAFKA_PORT"
	childData = "ALTYN_LOCALKAFKA_DATA"
)

// hooked says that Child was called, so that this program can be started again as a broker.
var hooked bool

// Child must come first in main or TestMain of a program that starts an embedded broker in a process of its own. That
// process is the same program once more; there, Child runs the broker and does not return.
func Child() {
	port, err := strconv.Atoi(os.Getenv(childPort))
	if err != nil {
		hooked = true
		return
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	cluster, err := newCluster(port, os.Getenv(childData), os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	<-signals
	cluster.Close()
	os.Exit(0)
}

func newCluster(port int, data string, log io.Writer) (*kfake.Cluster, error) {
	return kfake.NewCluster(
		kfake.NumBrokers(1), kfake.Ports(port), kfake.ClusterID("altyn"),
		kfake.DataDir(data), kfake.SyncWrites(),
		kfake.BrokerConfigs(map[string]string{"offsets.retention.minutes": strconv.Itoa(offsetsRetentionMinutes)}),
		kfake.WithLogger(kfake.BasicLogger(log, kfake.LogLevelError)),
	)
}

func launchEmbedded(f *folder, port int, inProcess bool, log io.Writer) (running, error) {
	if inProcess {
		tail := &logtail.Tail{Next: log}
		cluster, err := newCluster(port, f.data(), tail)
		if err != nil {
			return nil, err
		}
		return &embedded{cluster: cluster, tail: tail, ended: make(chan struct{})}, nil
	}
	if !hooked {
		return nil, errors.New("main (or TestMain) must call localkafka.Child first, for an embedded broker in a process " +
			"of its own")
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return startProcess(f, log, []string{childPort + "=" + strconv.Itoa(port), childData + "=" + f.data()}, program)
}

// embedded is the broker in this process.
type embedded struct {
	cluster *kfake.Cluster
	tail    *logtail.Tail
	once    sync.Once
	ended   chan struct{}
}

func (e *embedded) pid() int              { return os.Getpid() }
func (e *embedded) done() <-chan struct{} { return e.ended }
func (e *embedded) log() string           { return e.tail.String() }

func (e *embedded) signal(syscall.Signal) error {
	e.once.Do(func() {
		e.cluster.Close()
		close(e.ended)
	})
	return nil
}
