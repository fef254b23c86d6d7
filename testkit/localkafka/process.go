package localkafka

import (
	"bufio"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"github.com/altyn-pay/altyn/testkit/internal/logtail"
)

// guard runs the broker and kills it when this process ends.
//
//go:embed guard.sh
var guard string

// process is a broker under its guard.
type process struct {
	broker int
	ended  chan struct{} // closed when the broker and its guard are gone
	tail   *logtail.Tail
}

// startProcess runs a command in a process group of its own, so that Ctrl-C at a terminal reaches only this process,
// which decides what it means.
func startProcess(f *folder, log io.Writer, env []string, command ...string) (*process, error) {
	deleteAtEnd := ""
	if f.temporary {
		deleteAtEnd = f.path
	}
	cmd := exec.Command("/bin/sh", append([]string{"-c", guard, "guard.sh", deleteAtEnd}, command...)...)
	cmd.Dir = f.path
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p := &process{ended: make(chan struct{}), tail: &logtail.Tail{Next: log}}
	cmd.Stdout, cmd.Stderr = p.tail, p.tail
	if _, err := cmd.StdinPipe(); err != nil { // closes with this process
		return nil, err
	}
	pid, childPID, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer pid.Close()
	cmd.ExtraFiles = []*os.File{childPID, f.lock}
	err = cmd.Start()
	childPID.Close()
	if err != nil {
		return nil, fmt.Errorf("start /bin/sh: %w", err)
	}
	line, errPID := bufio.NewReader(pid).ReadString('\n')
	p.broker, err = strconv.Atoi(strings.TrimSpace(line))
	go func() {
		_ = cmd.Wait() // for the broker too: it holds the pipe of the log
		close(p.ended)
	}()
	if err := errors.Join(errPID, err); err != nil {
		<-p.ended
		return nil, fmt.Errorf("start %s: %w; %s", command[0], err, p.tail)
	}
	return p, nil
}

func (p *process) pid() int              { return p.broker }
func (p *process) done() <-chan struct{} { return p.ended }
func (p *process) log() string           { return p.tail.String() }

func (p *process) signal(signal syscall.Signal) error {
	select {
	case <-p.ended:
		return nil
	default:
	}
	if err := syscall.Kill(p.broker, signal); !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}
