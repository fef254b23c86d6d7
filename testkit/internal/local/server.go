// Package local runs a server, such as PostgreSQL or a Kafka broker, as a child of this process on data in a folder.
//
// A server never outlives the process that started it, not even after kill -9: a small shell script watches a pipe from
// that process and ends the server when the pipe closes.
package local

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/altyn-pay/altyn/platform/stage"
)

const (
	startTimeout = 2 * time.Minute // recovery after a crash is part of it
	startTries   = 20
	startPause   = 200 * time.Millisecond
	pollPause    = 10 * time.Millisecond
	portTries    = 5
	stopTimeout  = 30 * time.Second
)

// guard runs the server and ends it when this process ends.
//
//go:embed guard.sh
var guard string

// Server is a running server.
type Server struct {
	Port uint16

	pid    int
	exited chan struct{} // closed when the guard, the server and all its processes are gone
	done   chan struct{}
	log    tail
}

// Program is what to run.
type Program struct {
	// Command makes the command, for a port. Its arguments must contain the folder's path.
	Command func(port uint16) (*exec.Cmd, error)
	// Ready reports whether the server answers.
	Ready func(ctx context.Context, pid int, port uint16) bool
	// Log receives the server's log; nil drops it.
	Log io.Writer
}

// Run returns a server on this folder that answers; 0 stands for any free port. The folder closes when the server has
// ended, and after an error nothing is left of the server. Run tries again where that helps: when another process took
// the free port, or when processes of a killed postmaster have yet to notice its death.
func (f *Folder) Run(ctx context.Context, port uint16, p Program) (*Server, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for try := 1; ; try++ {
		free, err := FreePort(ctx, port)
		if err != nil {
			return nil, err
		}
		s := &Server{Port: free, exited: make(chan struct{}), done: make(chan struct{}), log: tail{next: p.Log}}
		if err = s.start(ctx, f, p); err == nil {
			return s, nil
		}
		end := s.log.String()
		again := strings.Contains(end, "shared memory block") || strings.Contains(end, "ddress already in use")
		if !again || try == startTries {
			return nil, fmt.Errorf("port %d, data in %s: %w; its log ends:\n%s", free, f.Path, err, end)
		}
		if !stage.Wait(ctx, startPause) {
			return nil, ctx.Err()
		}
	}
}

// start starts the server in a session of its own, so that Ctrl-C at a terminal reaches only this process, which
// decides what it means. It returns when the server answers.
func (s *Server) start(ctx context.Context, f *Folder, p Program) error {
	if err := os.RemoveAll(f.pidFile()); err != nil {
		return err
	}
	cmd, err := p.Command(s.Port)
	if err != nil {
		return err
	}
	deleteAtEnd := ""
	if f.temporary {
		deleteAtEnd = f.Path
	}
	cmd.Args = append([]string{"/bin/sh", "-c", guard, "guard.sh", strconv.Itoa(int(f.quit)), deleteAtEnd, cmd.Path},
		cmd.Args[1:]...)
	cmd.Path, cmd.Dir = cmd.Args[0], f.Path
	cmd.Stdout, cmd.Stderr = &s.log, &s.log
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid = true
	lifeline, err := cmd.StdinPipe() // closes with this process
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", cmd, err)
	}
	go func() {
		_ = cmd.Wait() // for the whole server: each of its processes holds the pipe of the log
		close(s.exited)
	}()

	poll := time.NewTicker(pollPause)
	defer poll.Stop()
	for {
		select {
		case <-s.exited:
			return errors.New("the server ended at once")
		case <-ctx.Done():
			lifeline.Close()
			<-s.exited
			return fmt.Errorf("the server was not ready in time: %w", ctx.Err())
		case <-poll.C:
			if s.pid = f.pid(); s.pid == 0 || !p.Ready(ctx, s.pid, s.Port) {
				continue
			}
			go func() {
				<-s.exited
				_ = f.Close()
				close(s.done)
			}()
			return nil
		}
	}
}

// PID is the server's process.
func (s *Server) PID() int { return s.pid }

// Done is closed when the server and all its processes have ended, whether by Stop or by themselves.
func (s *Server) Done() <-chan struct{} { return s.done }

// Stop ends the server by a signal, or by SIGKILL if it has not ended after 30 s. It returns when all its processes are
// gone and temporary data are deleted. Stopping a server that has ended is no error.
func (s *Server) Stop(signal syscall.Signal) error {
	for _, signal := range []syscall.Signal{signal, syscall.SIGKILL} {
		select {
		case <-s.done:
			return nil
		default:
		}
		for _, signal := range []syscall.Signal{signal, syscall.SIGCONT} { // it may be frozen by SIGSTOP
			if err := syscall.Kill(s.pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("stop process %d: %w", s.pid, err)
			}
		}
		select {
		case <-s.done:
			return nil
		case <-time.After(stopTimeout):
		}
	}
	return fmt.Errorf("process %d has not ended", s.pid)
}

// Host is where the servers listen.
const Host = "127.0.0.1"

// Address is host:port.
func Address(port uint16) string { return net.JoinHostPort(Host, strconv.Itoa(int(port))) }

// FreePort returns the port if nobody listens there; for 0 it returns any free one. It looks again at one that seems
// taken, a few times: the processes of a server that was killed may have yet to notice it, and a program that is being
// started inherits the listener of an earlier look until it is executed.
func FreePort(ctx context.Context, port uint16) (uint16, error) {
	for try := 1; ; try++ {
		listener, err := net.Listen("tcp", Address(port))
		if err == nil {
			defer listener.Close()
			return uint16(listener.Addr().(*net.TCPAddr).Port), nil
		}
		err = fmt.Errorf("port %d is not free: %w", port, err)
		if try == portTries || !errors.Is(err, syscall.EADDRINUSE) || !stage.Wait(ctx, startPause) {
			return 0, err
		}
	}
}

// tail passes a log on to next, which may be nil, and remembers its end, which says why the server has failed.
type tail struct {
	next io.Writer

	mu  sync.Mutex
	end []byte
}

const tailBytes = 4 << 10

// Write never fails: a log that cannot be written must not stop the server.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end = append(t.end, p...)
	t.end = t.end[max(0, len(t.end)-tailBytes):]
	if t.next != nil {
		_, _ = t.next.Write(p)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.end)
}
