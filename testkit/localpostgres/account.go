package localpostgres

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is the user that runs the server: this process's own, or another one when that is root.
type account struct {
	name     string
	uid, gid int
	instead  bool // of root
}

// Root's own folders may be closed to the server's user. A process of root then keeps what both need here.
const (
	rootData  = "/var/lib/altyn"
	rootCache = "/var/cache/altyn"
	rootTemp  = "/tmp"
)

func serverAccount() (account, error) {
	if os.Geteuid() != 0 {
		return account{uid: os.Geteuid(), gid: os.Getegid()}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.Atoi(found.Uid)
		gid, gidErr := strconv.Atoi(found.Gid)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return account{}, fmt.Errorf("user %s: %w", name, err)
		}
		return account{name: name, uid: uid, gid: gid, instead: true}, nil
	}
	return account{}, errors.New("PostgreSQL does not run as root, and this machine has no user " +
		"postgres or nobody")
}

// command returns a command that runs as the account, in a session of its own, so that Ctrl-C at a terminal reaches
// only this process, which decides what it means. It inherits no environment, so that PGDATA or LANG change nothing.
func (a account) command(ctx context.Context, dir, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if a.instead {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	}
	return cmd
}

// makeDir makes the folder and its parents so that the account can enter them.
func (a account) makeDir(dir string) error {
	if !a.instead {
		return os.MkdirAll(dir, 0o755)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := a.makeDir(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		if errors.Is(err, fs.ErrExist) { // another process was faster
			return nil
		}
		return err
	}
	return os.Chmod(dir, 0o755) // whatever the umask
}

// own makes the account the owner of a file or folder.
func (a account) own(path string) error {
	if !a.instead {
		return nil
	}
	return os.Chown(path, a.uid, a.gid)
}

// take makes the account the owner of a folder, and fails where the account cannot reach it.
func (a account) take(dir string) error {
	if err := a.own(dir); err != nil {
		return err
	}
	if !a.reaches(dir) {
		return fmt.Errorf("user %s cannot reach %s: it lacks the right to enter a folder above", a.name, dir)
	}
	return nil
}

// reaches reports whether the account may enter the folder or, if that does not exist, its nearest parent.
func (a account) reaches(dir string) bool {
	if !a.instead {
		return true
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return a.reaches(filepath.Dir(dir))
	}
	return a.command(context.Background(), "/", "/bin/sh", "-c", `cd "$0"`, dir).Run() == nil
}

// folder is Folder for this account.
func (a account) folder(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if a.reaches(dir) {
		return dir, nil
	}
	sum := sha256.Sum256([]byte(dir))
	return filepath.Join(rootData, "postgres-"+hex.EncodeToString(sum[:6])), nil
}

// memoryDir is Linux's file system in memory, which may be small in a container.
const (
	memoryDir      = "/dev/shm"
	memoryDirBytes = 2 << 30 // needed at least
)

// tempDir returns a folder for temporary data. Volatile data go to memory where there is room.
func (a account) tempDir(volatile bool) string {
	var memory syscall.Statfs_t
	if volatile && syscall.Statfs(memoryDir, &memory) == nil && memory.Bavail*uint64(memory.Bsize) >= memoryDirBytes {
		return memoryDir
	}
	if dir := os.TempDir(); a.reaches(dir) {
		return dir
	}
	return rootTemp
}

// cacheDir returns a folder that this process can write and the account can read: the user's cache folder, if
// possible.
func (a account) cacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if dir = filepath.Join(dir, "altyn"); a.instead && (err != nil || !a.reaches(dir)) {
		dir, err = rootCache, nil
	}
	if err != nil {
		return "", err
	}
	return dir, a.makeDir(dir)
}
