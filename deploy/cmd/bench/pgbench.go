package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"
)

const pgbenchName = "pgbench"

// findPgbench looks for pgbench in PATH and where Debian keeps it.
func findPgbench() (string, error) {
	if path, err := exec.LookPath(pgbenchName); err == nil {
		return path, nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/pgbench")
	if err != nil || len(found) == 0 {
		return "", errors.New("pgbench, the yardstick, is not installed: it comes with PostgreSQL's server (Debian: " +
			"postgresql; macOS: brew install postgresql)")
	}
	slices.Sort(found)
	return found[len(found)-1], nil
}

var tps = regexp.MustCompile(`tps = ([0-9.]+) \(without initial connection time\)`)

// newPgbench returns the yardstick pgbench: TPC-B on the stack's server, in a database of its own.
func newPgbench(ctx context.Context, s *site) (yardstick, error) {
	program, err := findPgbench()
	if err != nil {
		return nil, err
	}
	server := s.Server().Admin()
	call := func(ctx context.Context, args ...string) (string, error) {
		args = append(args, "-h", server.Host, "-p", strconv.Itoa(int(server.Port)), "-U", server.User, "pgbench")
		command := exec.CommandContext(ctx, program, args...)
		command.Env = append(os.Environ(), "PGPASSWORD="+server.Password)
		out, err := command.CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("pgbench: %w\n%s", errors.Join(ctx.Err(), err), out)
		}
		return string(out), nil
	}
	say("pgbench: making its tables, scale 20")
	if _, err := s.admin.ExecContext(ctx, `CREATE DATABASE pgbench`); err != nil {
		return nil, err
	}
	if _, err := call(ctx, "-i", "-q", "-s", "20"); err != nil {
		return nil, err
	}
	return func(ctx context.Context, _ workload, duration time.Duration) (float64, error) {
		if err := s.quiet(ctx); err != nil { // it vacuums its tables before it begins
			return 0, err
		}
		seconds := max(int(duration.Seconds()/2), 1)
		out, err := call(ctx, "-c", "8", "-j", "2", "-M", "prepared", "-T", strconv.Itoa(seconds))
		if err != nil {
			return 0, err
		}
		match := tps.FindStringSubmatch(out)
		if match == nil {
			return 0, fmt.Errorf("pgbench printed no tps:\n%s", out)
		}
		return strconv.ParseFloat(match[1], 64)
	}, nil
}
