package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/altyn-pay/altyn/platform/stage"
)

// Folder holds one server's data, beside the file "lock", which this process keeps locked, and the file "pid", which
// names the server's process.
type Folder struct {
	Path string

	temporary bool
	quit      syscall.Signal
	lock      *os.File
}

// leftoverTimeout bounds the end of a server that a killed process left behind.
const leftoverTimeout = 20 * time.Second

// Open locks a folder, and fails while a living process runs a server there. It ends a server that a killed process
// left behind. The signal is what ends this kind of server at once. Closing a temporary folder deletes it.
func Open(ctx context.Context, path string, temporary bool, quit syscall.Signal) (*Folder, error) {
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	f := &Folder{Path: path, temporary: temporary, quit: quit, lock: lock}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); errors.Is(err, syscall.EWOULDBLOCK) {
		err = fmt.Errorf("another process runs a server on the data in %s", path)
		return nil, errors.Join(err, lock.Close())
	} else if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), lock.Close())
	}
	if err := f.stopLeftover(ctx); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return f, nil
}

// Close unlocks the folder, and deletes a temporary one. No server may run there any more.
func (f *Folder) Close() (err error) {
	if f.temporary {
		err = os.RemoveAll(f.Path)
	}
	return errors.Join(err, f.lock.Close())
}

func (f *Folder) pidFile() string { return filepath.Join(f.Path, "pid") }

// pid is the process of the server that runs or ran last; 0 if there was none.
func (f *Folder) pid() int {
	text, _ := os.ReadFile(f.pidFile())
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return pid
}

// stopLeftover stops a server that a killed process left behind. Since this process holds the lock, no living process
// runs a server here.
func (f *Folder) stopLeftover(ctx context.Context) error {
	pid := f.pid()
	if pid <= 1 || !f.runsServer(ctx, pid) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, leftoverTimeout)
	defer cancel()
	if err := syscall.Kill(pid, f.quit); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stop process %d, left behind on %s: %w", pid, f.Path, err)
	}
	for f.runsServer(ctx, pid) {
		if !stage.Wait(ctx, pollPause) {
			return fmt.Errorf("process %d, left behind on %s, does not stop: %w", pid, f.Path, ctx.Err())
		}
	}
	return nil
}

// runsServer reports whether the process is a server on this folder, rather than one that was given the ID of a dead
// one.
func (f *Folder) runsServer(ctx context.Context, pid int) bool {
	if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
		return false
	}
	command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if errors.Is(err, fs.ErrNotExist) { // no Linux
		command, _ = exec.CommandContext(ctx, "ps", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	}
	return strings.Contains(string(command), f.Path)
}

// Complete makes a folder that is there only once it is complete: fill gets a temporary one beside it. Any number of
// processes may do so at once.
func Complete(dir string, fill func(unfinished string) error) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	unfinished, err := os.MkdirTemp(filepath.Dir(dir), "unfinished-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(unfinished)
	if err := errors.Join(os.Chmod(unfinished, 0o755), fill(unfinished)); err != nil {
		return err
	}
	if err := os.Rename(unfinished, dir); err != nil && !errors.Is(err, fs.ErrExist) { // another process was faster
		return err
	}
	return nil
}
