package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/altyn-pay/altyn/platform/stage"
)

// process identifies a process of this machine. Its start tells it from a later process with the same ID.
type process struct {
	PID     int    `json:"pid"`
	Started string `json:"started"`
}

const (
	psTimeout     = 5 * time.Second
	killTimeout   = 5 * time.Second
	leftoverGrace = 3 * time.Second
	pollInterval  = 20 * time.Millisecond
)

// identify returns the process that has this ID now. If there is none, Started is "".
func identify(pid int) process {
	p := process{PID: pid}
	if pid <= 1 {
		return p
	}
	if runtime.GOOS == "linux" {
		p.Started = startOnLinux(pid)
		return p
	}
	ctx, cancel := context.WithTimeout(context.Background(), psTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ps", "-o", "lstart=", "-p", strconv.Itoa(pid))
	cmd.Env = []string{"LC_ALL=C", "TZ=UTC", "PATH=/bin:/usr/bin"}
	if output, err := cmd.Output(); err == nil {
		p.Started = strings.TrimSpace(string(output))
	}
	return p
}

// startOnLinux returns the ID of the machine's boot and the clock ticks from there to the process's start; "" if
// there is no such process or it is a zombie.
func startOnLinux(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The second field, the program's name, is in brackets and may contain anything. State is the third field, the start
	// the 22nd.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return ""
	}
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(boot)) + "/" + fields[19]
}

func (p process) alive() bool { return p.Started != "" && identify(p.PID) == p }

// signal signals this process, never a later one with its ID: where the system can, a descriptor holds the process
// between the check and the signal. It has no effect if the process is gone.
func (p process) signal(signal syscall.Signal) error {
	held, err := os.FindProcess(p.PID)
	if err != nil {
		return err
	}
	defer func() { _ = held.Release() }()
	if !p.alive() {
		return nil
	}
	if err := held.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("process %d: %w", p.PID, err)
	}
	return nil
}

// await waits until the process is gone.
func (p process) await(ctx context.Context, timeout time.Duration) error {
	if err := until(ctx, timeout, func() bool { return !p.alive() }); err != nil {
		return fmt.Errorf("process %d has not ended: %w", p.PID, err)
	}
	return nil
}

// end gives the process some time to end by itself, then kills it.
func (p process) end(ctx context.Context, grace time.Duration) error {
	err := p.await(ctx, grace)
	if err == nil || ctx.Err() != nil {
		return err
	}
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	return p.await(ctx, killTimeout)
}

// awaitReaped waits until the system has released the ID of a dead process: PostgreSQL does not start while its last
// server's ID is in use. Where process 1 reaps nobody, as in some containers, that never happens, so this gives up
// soon.
func (p process) awaitReaped(ctx context.Context) {
	_ = until(ctx, leftoverGrace, func() bool { return p.PID <= 0 || syscall.Kill(p.PID, 0) != nil })
}

// until polls until something is so, or the end of ctx or the time.
func until(ctx context.Context, timeout time.Duration, so func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for !so() {
		if !stage.Wait(ctx, pollInterval) {
			return ctx.Err()
		}
	}
	return nil
}
