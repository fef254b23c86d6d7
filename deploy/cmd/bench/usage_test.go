package main

import (
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// fakeProcess is what /proc tells of a process.
type fakeProcess struct {
	pid, parent                          int
	user, system, childUser, childSystem int // in ticks of 10 ms
	title                                string
}

// fakeProc writes a folder like /proc.
func fakeProc(t *testing.T, processes ...fakeProcess) string {
	t.Helper()
	proc := t.TempDir()
	write := func(pid int, name, text string) {
		dir := filepath.Join(proc, strconv.Itoa(pid))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range processes {
		write(p.pid, "stat", fmt.Sprintf("%d (a (b) c) S %d 1 1 0 -1 4194560 100 0 0 0 %d %d %d %d 20 0 1 0 100 1000 100 "+
			"18446744073709551615 1 1 1 1 1 0 0 0 0 0 0 0 17 0 0 0 0 0 0",
			p.pid, p.parent, p.user, p.system, p.childUser, p.childSystem))
		write(p.pid, "cmdline", p.title)
	}
	return proc
}

func TestCPUByProcess(t *testing.T) {
	const postmaster = 10
	processes := map[int]string{20: "orders", 30: benchmarkName}
	before := readCPU(fakeProc(t,
		fakeProcess{pid: postmaster, user: 5, system: 5, childUser: 100, childSystem: 100, title: "/bin/postgres\x00-D\x00x"},
		fakeProcess{pid: 20, user: 100, system: 50, title: "orders"},
		fakeProcess{pid: 30, title: "bench"},
		fakeProcess{pid: 11, parent: postmaster, user: 10, title: "postgres: checkpointer \x00\x00"},
		fakeProcess{pid: 12, parent: postmaster, user: 40,
			title: "postgres: orders_service orders 127.0.0.1(40000) idle\x00\x00"},
		fakeProcess{pid: 13, parent: postmaster, user: 30, title: "postgres: orders_service orders 127.0.0.1(40001) INSERT"},
		fakeProcess{pid: 40, parent: 1, user: 99, title: "postgres: of another server"},
	), processes, postmaster)
	after := readCPU(fakeProc(t,
		// 13 has ended with 35 ticks, and so has an autovacuum worker with 20 that came and went.
		fakeProcess{pid: postmaster, user: 6, system: 5, childUser: 150, childSystem: 105, title: "/bin/postgres\x00-D\x00x"},
		fakeProcess{pid: 20, user: 130, system: 70, title: "orders"},
		fakeProcess{pid: 30, user: 7, title: "bench"},
		fakeProcess{pid: 11, parent: postmaster, user: 12, title: "postgres: checkpointer \x00\x00"},
		fakeProcess{pid: 12, parent: postmaster, user: 50,
			title: "postgres: orders_service orders 127.0.0.1(40000) idle\x00\x00"},
		fakeProcess{pid: 14, parent: postmaster, user: 8, title: "postgres: payments_service payments 127.0.0.1(40002) idle"},
		fakeProcess{pid: 15, parent: postmaster, user: 3, title: "postgres: autovacuum worker orders"},
		fakeProcess{pid: 16, parent: postmaster, user: 2, title: "postgres: postgres postgres 127.0.0.1(40003) idle"},
	), processes, postmaster)
	ticks := map[string]float64{}
	for name, seconds := range after.since(before) {
		ticks[name] = math.Round(100 * seconds)
	}
	if want := map[string]float64{
		"orders": 50, benchmarkName: 7, "PostgreSQL, orders": 10, "PostgreSQL, payments": 8,
		postgresOtherName: 1 + 2 + 3 + 2 + 55 - 30,
	}; !maps.Equal(ticks, want) {
		t.Errorf("got %v, want %v", ticks, want)
	}
}

func TestSystemsThatDoNotTell(t *testing.T) {
	times := readCPU(filepath.Join(t.TempDir(), "none"), map[int]string{20: "orders"}, 10)
	if used := times.since(times); len(used) > 0 {
		t.Error(used)
	}
	if use := memory(-1); use != (memoryUse{}) {
		t.Error(use)
	}
}

func TestMemory(t *testing.T) {
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("there is no /proc")
	}
	if use := memory(os.Getpid()); use.now < 1<<20 || use.peak < use.now {
		t.Errorf("%+v", use)
	}
}
