package localkafka

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// lockTimeout bounds the wait for the broker of a process that was just killed, which ends a moment later.
const lockTimeout = 10 * time.Second

// folder is where a broker keeps its data: in "data", beside a file that names the broker.
type folder struct {
	path      string
	temporary bool
	lock      *os.File // held by this process and by the broker, which inherits it
}

func openFolder(ctx context.Context, path string) (*folder, error) {
	f := &folder{path: path}
	var err error
	if path == "" {
		f.temporary = true
		f.path, err = os.MkdirTemp("", "altyn-kafka-")
	} else if f.path, err = filepath.Abs(path); err == nil {
		err = os.MkdirAll(f.path, 0o755)
	}
	if err != nil {
		return nil, err
	}
	f.lock, err = os.OpenFile(filepath.Join(f.path, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		err := syscall.Flock(int(f.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			f.close()
			return nil, fmt.Errorf("the data in %s are in use by another broker: %w", f.path, err)
		}
	}
}

// close unlocks the folder, and deletes a temporary one. The broker holds the lock too, until it has ended.
func (f *folder) close() {
	_ = f.lock.Close()
	if f.temporary {
		_ = os.RemoveAll(f.path)
	}
}

func (f *folder) data() string { return filepath.Join(f.path, "data") }
func (f *folder) mark() string { return filepath.Join(f.path, "broker") }

// owner returns the broker that made the data; empty if there are none.
func (f *folder) owner() (Kind, error) {
	content, err := os.ReadFile(f.mark())
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	switch kind := Kind(strings.TrimSpace(string(content))); kind {
	case Apache, Embedded:
		return kind, nil
	default:
		return "", fmt.Errorf("%s names no broker: %q; delete the folder", f.mark(), content)
	}
}

// claim writes down which broker makes the data.
func (f *folder) claim(kind Kind) error {
	temporary := f.mark() + ".new"
	if err := os.WriteFile(temporary, []byte(kind+"\n"), 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, f.mark())
}
