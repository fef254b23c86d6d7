package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// Disk is a file system in memory that can be full. It needs Linux and the right to mount.
type Disk struct {
	dir   string
	bytes int64
}

// Mount mounts a disk of so many bytes in a folder, which it makes.
func Mount(dir string, bytes int64) (*Disk, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	d := &Disk{dir, bytes}
	return d, run(context.Background(), "mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d,mode=755", bytes),
		"altyn-faults", dir)
}

// fillTries bounds the tries to fill a disk to which somebody writes.
const fillTries = 100

// Fill leaves no room: the disk is as large as what is on it.
func (d *Disk) Fill() (err error) {
	for range fillTries {
		var now syscall.Statfs_t
		if err := syscall.Statfs(d.dir, &now); err != nil {
			return err
		}
		if err = d.resize(int64(now.Blocks-now.Bfree) * now.Bsize); err == nil {
			return nil
		}
	}
	return err
}

// Free makes room again.
func (d *Disk) Free() error { return d.resize(d.bytes) }

func (d *Disk) resize(bytes int64) error {
	return run(context.Background(), "mount", "-o", fmt.Sprintf("remount,size=%d", bytes), d.dir)
}

// Unmount ends the disk, with all that is on it, once nobody uses it any more.
func (d *Disk) Unmount() error { return run(context.Background(), "umount", "--lazy", d.dir) }

func run(ctx context.Context, name string, args ...string) error {
	if output, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, output)
	}
	return nil
}

// CanMount returns why this process cannot mount a disk, or nil.
func CanMount(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "altyn-faults-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	disk, err := Mount(dir, 1<<20)
	if err != nil {
		return err
	}
	return disk.Unmount()
}
