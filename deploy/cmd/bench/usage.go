package main

import (
	"context"
	"os"
	"slices"
	"strings"

	"github.com/prometheus/procfs"

	"github.com/altyn-pay/altyn/deploy/stack"
)

// usage is what a stack has used up to now.
type usage struct {
	cpu cpuTimes
	wal int64 // bytes
}

func (s *site) usage(ctx context.Context) (u usage, err error) {
	processes := map[int]string{os.Getpid(): benchmarkName}
	postmaster := 0
	for _, part := range s.Parts() {
		if part.Name == stack.PostgresName {
			postmaster = part.PID
		} else {
			processes[part.PID] = part.Name
		}
	}
	u.cpu = readCPU(procfs.DefaultMountPoint, processes, postmaster)
	return u, s.admin.GetContext(ctx, &u.wal, `SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint`)
}

const (
	benchmarkName     = "benchmark"
	postgresOtherName = "PostgreSQL, other"
	postgresPrefix    = "PostgreSQL, " // and the database

	ended = -1 // instead of a process's ID: those children of the postmaster that have ended, together
)

// cpuTimes are the processor times of processes, by their ID.
type cpuTimes map[int]cpuTime

type cpuTime struct {
	name    string
	seconds float64
}

// readCPU reads the times of the named processes, the postmaster and its children. Without a /proc it returns none.
func readCPU(proc string, processes map[int]string, postmaster int) cpuTimes {
	times := cpuTimes{}
	fs, err := procfs.NewFS(proc)
	if err != nil {
		return times
	}
	all, _ := fs.AllProcs()
	for _, p := range all {
		stat, err := p.Stat()
		if err != nil { // it has ended meanwhile
			continue
		}
		name := processes[p.PID]
		switch postmaster {
		case p.PID:
			name = postgresOtherName
			children := procfs.ProcStat{UTime: uint(stat.CUTime), STime: uint(stat.CSTime)}
			times[ended] = cpuTime{name, children.CPUTime()}
		case stat.PPID:
			name = backendName(p)
		}
		if name != "" {
			times[p.PID] = cpuTime{name, stat.CPUTime()}
		}
	}
	return times
}

// backendName names the database that a process of PostgreSQL works for. The title of a client's backend is
// "postgres: user database host(port) activity"; other processes' titles have no host.
func backendName(p procfs.Proc) string {
	title, _ := p.CmdLine() // a process that has ended has none
	words := strings.Fields(strings.Join(title, " "))
	if len(words) >= 4 && words[0] == "postgres:" && strings.HasSuffix(words[3], ")") &&
		slices.Contains(services, words[2]) {
		return postgresPrefix + words[2]
	}
	return postgresOtherName
}

// since returns the seconds used between two readings, by name. Of processes that ended in between, only the
// postmaster's sum is known. They count as PostgreSQL's other processes, which they mostly are (autovacuum).
func (t cpuTimes) since(before cpuTimes) map[string]float64 {
	used := map[string]float64{}
	for id, now := range t {
		used[now.name] += now.seconds - before[id].seconds // a new one has used none before
	}
	for id, then := range before {
		if _, lives := t[id]; !lives {
			used[postgresOtherName] -= then.seconds // what it had used before is in the sum
		}
	}
	return used
}

// memoryUse is how much memory a process has, and the most it ever had, in bytes.
type memoryUse struct{ now, peak float64 }

// memory is that of a process, or nothing where there is no /proc.
func memory(pid int) memoryUse {
	process, err := procfs.NewProc(pid)
	if err != nil {
		return memoryUse{}
	}
	status, err := process.NewStatus()
	if err != nil {
		return memoryUse{}
	}
	return memoryUse{float64(status.VmRSS), float64(status.VmHWM)}
}
