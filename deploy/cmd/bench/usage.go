package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/altyn-pay/altyn/deploy/stack"
)

// usage is what a stack has used up to now.
type usage struct {
	cpu cpuTimes
	wal int64 // bytes
}

func (s *site) usage(ctx context.Context) (u usage, err error) {
	if err := s.admin.GetContext(ctx, &u.wal, `SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint`); err != nil {
		return u, err
	}
	processes := map[string]int{benchmarkName: os.Getpid()}
	postmaster := 0
	for _, part := range s.Parts() {
		if part.Name == stack.PostgresName {
			postmaster = part.PID
		} else {
			processes[part.Name] = part.PID
		}
	}
	u.cpu, err = readCPU(procDir, processes, postmaster)
	return u, err
}

const (
	procDir = "/proc"
	// tick is the unit of times in /proc, the same on every Linux that Go supports.
	tick = 10 * time.Millisecond

	benchmarkName     = "benchmark"
	postgresOtherName = "PostgreSQL, other"
	postgresPrefix    = "PostgreSQL, " // and the database
)

// cpuTimes are the processor times of the processes by name; of PostgreSQL's children by ID.
type cpuTimes struct {
	named    map[string]time.Duration
	backends map[int]backend
	ended    time.Duration // of the children of the postmaster that have ended
}

type backend struct {
	name string
	cpu  time.Duration
}

// readCPU reads the times from /proc. Without a /proc it returns none.
func readCPU(proc string, processes map[string]int, postmaster int) (cpuTimes, error) {
	times := cpuTimes{named: map[string]time.Duration{}, backends: map[int]backend{}}
	for name, pid := range processes {
		stat, err := readStat(proc, pid)
		if errors.Is(err, fs.ErrNotExist) {
			return cpuTimes{}, nil
		} else if err != nil {
			return times, err
		}
		times.named[name] = stat.cpu
	}
	stats, err := filepath.Glob(filepath.Join(proc, "[0-9]*"))
	if err != nil {
		return times, err
	}
	for _, dir := range stats {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		stat, err := readStat(proc, pid)
		switch {
		case err != nil: // it has ended meanwhile
		case pid == postmaster:
			times.named[postgresOtherName] = stat.cpu
			times.ended = stat.children
		case stat.parent == postmaster:
			times.backends[pid] = backend{backendName(proc, pid), stat.cpu}
		}
	}
	return times, nil
}

type stat struct {
	parent   int
	cpu      time.Duration
	children time.Duration // of those that have ended
}

// readStat reads /proc/PID/stat: the name in parentheses, which may contain anything, then the state, the parent's ID
// and, as the 14th to 17th field of the line, the times.
func readStat(proc string, pid int) (stat, error) {
	path := filepath.Join(proc, strconv.Itoa(pid), "stat")
	text, err := os.ReadFile(path)
	if err != nil {
		return stat{}, err
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 15 {
		return stat{}, fmt.Errorf("%s has another form: %s", path, text)
	}
	var numbers [5]int64
	for i, field := range []int{1, 11, 12, 13, 14} { // the state, the third field, is number 0 here
		if numbers[i], err = strconv.ParseInt(fields[field], 10, 64); err != nil {
			return stat{}, fmt.Errorf("%s has another form: %s", path, text)
		}
	}
	return stat{
		parent:   int(numbers[0]),
		cpu:      time.Duration(numbers[1]+numbers[2]) * tick,
		children: time.Duration(numbers[3]+numbers[4]) * tick,
	}, nil
}

// backendName names the database that a process of PostgreSQL works for. The title of a client's backend is
// "postgres: user database host(port) activity"; other processes' titles have no host.
func backendName(proc string, pid int) string {
	title, _ := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "cmdline")) // a process that has ended has none
	words := strings.Fields(strings.TrimRight(string(title), "\x00 "))
	if len(words) >= 4 && words[0] == "postgres:" && strings.HasSuffix(words[3], ")") &&
		slices.Contains(services, words[2]) {
		return postgresPrefix + words[2]
	}
	return postgresOtherName
}

// since returns the time used between two readings, by name. Of processes that ended in between, only the
// postmaster's sum is known. They count as PostgreSQL's other processes, which they mostly are (autovacuum).
func (t cpuTimes) since(before cpuTimes) map[string]time.Duration {
	used := map[string]time.Duration{}
	for name, cpu := range t.named {
		used[name] = cpu - before.named[name]
	}
	for pid, b := range t.backends {
		used[b.name] += b.cpu - before.backends[pid].cpu // a new one has used none before
	}
	if len(t.named) > 0 {
		ended := t.ended - before.ended
		for pid, b := range before.backends {
			if _, lives := t.backends[pid]; !lives {
				ended -= b.cpu // what it had used before this time
			}
		}
		used[postgresOtherName] += max(ended, 0)
	}
	return used
}

// memory reads a figure of /proc/PID/status in bytes: VmRSS is the memory that a process has, VmHWM the most it ever
// had. It is 0 where there is no /proc.
func memory(proc string, pid int, field string) (int64, error) {
	file, err := os.Open(filepath.Join(proc, strconv.Itoa(pid), "status"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), field+":"); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(text), " kB"), 10, 64)
			return kb * 1024, err
		}
	}
	return 0, lines.Err()
}
