package localpostgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/altyn-pay/altyn/testkit/internal/local"
)

const initTimeout = time.Minute

// folder holds one server's data: the cluster is in "pgdata".
type folder struct {
	*local.Folder
	user account
}

// openFolder makes the folder and locks it. "" stands for a temporary one; if volatile, that is in memory where there
// is room.
func openFolder(ctx context.Context, dir string, user account, volatile bool) (folder, error) {
	var path string
	var err error
	if dir == "" {
		path, err = os.MkdirTemp(user.tempDir(volatile), "altyn-postgres-")
	} else if path, err = user.folder(dir); err == nil {
		err = user.makeDir(path)
	}
	if err != nil {
		return folder{}, fmt.Errorf("make the data folder: %w", err)
	}
	if err := user.take(path); err != nil {
		return folder{}, err
	}
	open, err := local.Open(ctx, path, dir == "", Immediate)
	return folder{open, user}, err
}

// cluster is the folder of the cluster in the data folder.
const cluster = "pgdata"

func (f folder) cluster() string { return filepath.Join(f.Path, cluster) }

// major is the major version of PostgreSQL that made the data; 0 if there are none.
func (f folder) major() int {
	text, err := os.ReadFile(filepath.Join(f.cluster(), "PG_VERSION"))
	if err != nil {
		return 0
	}
	major, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return major
}

// initialise has fill make the cluster unless it exists. It gets its name only when it is complete.
func (f folder) initialise(fill func(dir string) error) error {
	if _, err := os.Stat(f.cluster()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	unfinished := f.cluster() + ".unfinished"
	if err := errors.Join(os.RemoveAll(unfinished), fill(unfinished)); err != nil {
		return err
	}
	return os.Rename(unfinished, f.cluster())
}

// initdb makes a new cluster.
func (f folder) initdb(ctx context.Context, bin binaries, noSync bool, dir string) error {
	password := filepath.Join(f.Path, "password")
	if err := os.WriteFile(password, []byte(superuser), 0o600); err != nil {
		return err
	}
	defer os.Remove(password)
	if err := f.user.own(password); err != nil {
		return err
	}

	ctx, cancel := context.WithTimeout(ctx, initTimeout)
	defer cancel()
	// The locale C sorts alike on every machine.
	args := []string{
		"--pgdata", dir, "--username", superuser, "--pwfile", password, "--auth", "scram-sha-256",
		"--encoding", "UTF8", "--locale", "C",
	}
	if noSync {
		args = append(args, "--no-sync")
	}
	output, err := f.user.command(ctx, f.Path, filepath.Join(bin.dir, "initdb"), args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("initdb of %s: %w\n%s", bin, err, output)
	}
	return nil
}

// postmaster is what the server that runs or ran last says of itself: process ID, data folder, start time, port, socket
// folder, address, shared memory, status.
func (f folder) postmaster() string {
	text, _ := os.ReadFile(filepath.Join(f.cluster(), "postmaster.pid"))
	return string(text)
}

// ready reports whether the server answers, which began after its folder said before.
func (f folder) ready(before string, pid int) bool {
	now := f.postmaster()
	lines := strings.Split(now, "\n")
	return now != before && len(lines) >= 8 && lines[0] == strconv.Itoa(pid) && strings.TrimSpace(lines[7]) == "ready"
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
	path, err := Folder(dir)
	if err != nil {
		return err
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	data, err := local.Open(ctx, path, true, Immediate)
	if err != nil {
		return fmt.Errorf("localpostgres: %w", err)
	}
	if err := data.Close(); err != nil {
		return fmt.Errorf("localpostgres: %w", err)
	}
	return nil
}
