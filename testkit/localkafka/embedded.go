package localkafka

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/twmb/franz-go/pkg/kfake"
)

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
