package localpostgres

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
)

// folder holds one server's data: the cluster in "pgdata" and the file "lock", which this process keeps locked while
// the server runs.
type folder struct {
	path      string
	temporary bool
	user      account
	lock      *os.File
}

const (
	initTimeout     = time.Minute
	leftoverTimeout = 20 * time.Second
)

// openFolder makes the folder and locks it. "" stands for a temporary one; if volatile, that is in memory where there
// is room.
func openFolder(dir string, user account, volatile bool) (*folder, error) {
	f := &folder{user: user}
	var err error
	if dir == "" {
		f.temporary = true
		f.path, err = os.MkdirTemp(user.tempDir(volatile), "altyn-postgres-")
	} else if f.path, err = user.folder(dir); err == nil {
		err = user.makeDir(f.path)
	}
	if err != nil {
		return nil, fmt.Errorf("localpostgres: make the data folder: %w", err)
	}
	if err := f.open(); err != nil {
		if f.temporary {
			os.RemoveAll(f.path)
		}
		return nil, fmt.Errorf("localpostgres: %w", err)
	}
	return f, nil
}

func (f *folder) open() error {
	if err := f.user.own(f.path); err != nil {
		return err
	}
	if !f.user.reaches(f.path) {
		return fmt.Errorf("user %s cannot reach %s: it lacks the right to enter a folder above", f.user.name, f.path)
	}
	lock, err := os.OpenFile(filepath.Join(f.path, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("another process runs a server on the data in %s", f.path)
		}
		return fmt.Errorf("lock %s: %w", f.path, err)
	}
	f.lock = lock
	return nil
}

// close unlocks the folder, and deletes a temporary one. No server may run there any more.
func (f *folder) close() {
	if f.temporary {
		os.RemoveAll(f.path) // the guard has done so, if a server ever ran
	}
	f.lock.Close()
}

func (f *folder) cluster() string { return filepath.Join(f.path, "pgdata") }

// major is the major version of PostgreSQL that made the data; 0 if there are none.
func (f *folder) major() int {
	text, err := os.ReadFile(filepath.Join(f.cluster(), "PG_VERSION"))
	if err != nil {
		return 0
	}
	major, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return major
}

// initialise creates the cluster unless it exists. It gets its name only when it is complete.
func (f *folder) initialise(ctx context.Context, bin binaries, noSync bool) error {
	if _, err := os.Stat(f.cluster()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	unfinished := f.cluster() + ".unfinished"
	if err := os.RemoveAll(unfinished); err != nil {
		return fmt.Errorf("localpostgres: %w", err)
	}
	password := filepath.Join(f.path, "password")
	if err := os.WriteFile(password, []byte(superuser), 0o600); err != nil {
		return fmt.Errorf("localpostgres: %w", err)
	}
	defer os.Remove(password)
	if err := f.user.own(password); err != nil {
		return fmt.Errorf("localpostgres: %w", err)
	}

	ctx, cancel := context.WithTimeout(ctx, initTimeout)
	defer cancel()
	// The locale C sorts alike on every machine.
	args := []string{
		"--pgdata", unfinished, "--username", superuser, "--pwfile", password, "--auth", "scram-sha-256",
		"--encoding", "UTF8", "--locale", "C",
	}
	if noSync {
		args = append(args, "--no-sync")
	}
	output, err := f.user.command(ctx, f.path, filepath.Join(bin.dir, "initdb"), args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("localpostgres: initdb of PostgreSQL %s (%s): %w\n%s", bin.version, bin.kind, err, output)
	}
	if err := os.Rename(unfinished, f.cluster()); err != nil {
		return fmt.Errorf("localpostgres: %w", err)
	}
	return nil
}

// postmaster is what postmaster.pid says of the server that runs or ran last.
type postmaster struct {
	pid     int
	started string // seconds since 1970; tells a new process from one that had the same ID
	ready   bool
}

func (f *folder) postmaster() postmaster {
	text, err := os.ReadFile(filepath.Join(f.cluster(), "postmaster.pid"))
	if err != nil {
		return postmaster{}
	}
	// Process ID, data folder, start time, port, socket folder, address, shared memory, status.
	lines := strings.Split(string(text), "\n")
	if len(lines) < 8 {
		return postmaster{}
	}
	pid, _ := strconv.Atoi(lines[0])
	return postmaster{pid: pid, started: lines[2], ready: strings.TrimSpace(lines[7]) == "ready"}
}

// stopLeftover stops a server that a killed process left behind. Since this process holds the lock, no living process
// runs a server here.
func (f *folder) stopLeftover(ctx context.Context) error {
	pid := f.postmaster().pid
	if pid <= 1 || !f.runsServer(ctx, pid) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, leftoverTimeout)
	defer cancel()
	if err := syscall.Kill(pid, syscall.SIGQUIT); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("localpostgres: stop process %d, left behind on %s: %w", pid, f.path, err)
	}
	poll := time.NewTicker(pollPause)
	defer poll.Stop()
	for f.runsServer(ctx, pid) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("localpostgres: process %d, left behind on %s, does not stop: %w", pid, f.path, ctx.Err())
		case <-poll.C:
		}
	}
	return nil
}

// runsServer reports whether the process is a postmaster on this folder, rather than one that was given the ID of a
// dead one.
func (f *folder) runsServer(ctx context.Context, pid int) bool {
	if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
		return false
	}
	command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if errors.Is(err, fs.ErrNotExist) { // no Linux
		command, _ = exec.CommandContext(ctx, "ps", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	}
	return strings.Contains(string(command), f.cluster())
}

// Folder returns where Start keeps the data for dir. That is dir itself, unless a process of root asks for a dir that
// the server's user cannot reach, such as one below /root: then it is a folder of dir's own under /var/lib/altyn.
func Folder(dir string) (string, error) {
	user, err := serverAccount()
	if err != nil {
		return "", err
	}
	return user.folder(dir)
}

// Remove deletes the data that Start keeps for dir. It stops a server that was left behind there, and fails while a
// living process runs one.
func Remove(ctx context.Context, dir string) error {
	user, err := serverAccount()
	if err != nil {
		return err
	}
	path, err := user.folder(dir)
	if err != nil {
		return err
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	data, err := openFolder(dir, user, false)
	if err != nil {
		return err
	}
	defer data.close()
	if err := data.stopLeftover(ctx); err != nil {
		return err
	}
	if err := os.RemoveAll(path); err != nil {
		return fmt.Errorf("localpostgres: %w", err)
	}
	return nil
}
