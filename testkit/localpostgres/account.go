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
			return account{}, fmt.Errorf("localpostgres: user %s: %w", name, err)
		}
		return account{name: name, uid: uid, gid: gid, instead: true}, nil
	}
	return account{}, errors.New("localpostgres: PostgreSQL does not run as root, and this machine has no user " +
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

// reaches reports whether the account may enter the folder or, if that does not exist, its nearest parent.
func (a account) reaches(dir string) bool {
	if !a.instead {
		return true
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return false
	}
	if resolved, err := filepath.EvalSymlinks(dir); err == nil {
		dir = resolved
	} else if errors.Is(err, fs.ErrNotExist) {
		return a.reaches(filepath.Dir(dir))
	} else {
		return false
	}
	for ; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil || !a.enters(info) {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
	}
}

// enters reports whether the folder's mode lets the account in.
func (a account) enters(info fs.FileInfo) bool {
	bit := fs.FileMode(0o001)
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		switch {
		case int(stat.Uid) == a.uid:
			bit = 0o100
		case int(stat.Gid) == a.gid:
			bit = 0o010
		}
	}
	return info.Mode()&bit != 0
}

// folder is Folder for this account.
func (a account) folder(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("localpostgres: %w", err)
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
	var candidates []string
	if dir, err := os.UserCacheDir(); err == nil {
		candidates = append(candidates, filepath.Join(dir, "altyn"))
	}
	if a.instead {
		candidates = append(candidates, rootCache)
	}
	var problem error
	for _, dir := range candidates {
		if !a.reaches(dir) {
			continue
		}
		if problem = a.makeDir(dir); problem == nil {
			return dir, nil
		}
	}
	// A user without a home.
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("altyn-cache-%d", os.Geteuid()))
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", errors.Join(problem, err)
	}
	// Everybody can write to the temporary folder, so somebody may have taken the name to have us run their programs.
	info, err := os.Lstat(dir)
	if err != nil {
		return "", err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || !info.IsDir() || int(stat.Uid) != os.Geteuid() ||
		info.Mode()&0o022 != 0 {
		return "", fmt.Errorf("%s belongs to somebody else", dir)
	}
	return dir, nil
}
