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

	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/platform/postgres"
)

// findPgbench looks for pgbench in PATH and where Debian keeps it.
func findPgbench() (string, error) {
	if path, err := exec.LookPath("pgbench"); err == nil {
		return path, nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/pgbench")
	if err != nil || len(found) == 0 {
		return "", errors.New("pgbench, the yardstick, is not installed: it comes with PostgreSQL's server (Debian: postgresql; macOS: brew install postgresql)")
	}
	slices.Sort(found)
	return found[len(found)-1], nil
}

var tps = regexp.MustCompile(`tps = ([0-9.]+) \(without initial connection time\)`)

// yardstick runs pgbench's TPC-B on the stack's own server, while Altyn is idle.
func yardstick(ctx context.Context, pgbench string, running *stack.Stack, duration time.Duration, say func(string)) (float64, error) {
	admin := running.Server().Admin()
	db, err := postgres.Open(admin)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, `CREATE DATABASE pgbench`); err != nil {
		return 0, fmt.Errorf("make a database for pgbench: %w", err)
	}
	call := func(args ...string) (string, error) {
		args = append(args, "-h", admin.Host, "-p", strconv.Itoa(int(admin.Port)), "-U", admin.User, "pgbench")
		command := exec.CommandContext(ctx, pgbench, args...)
		command.Env = append(os.Environ(), "PGPASSWORD="+admin.Password)
		out, err := command.CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("pgbench: %w\n%s", err, out)
		}
		return string(out), nil
	}
	say("pgbench: making its tables, scale 20")
	if _, err := call("-i", "-q", "-s", "20"); err != nil {
		return 0, err
	}
	say("pgbench: warming up, then " + duration.String())
	if _, err := call("-c", "8", "-j", "2", "-M", "prepared", "-T", "3"); err != nil {
		return 0, err
	}
	out, err := call("-c", "8", "-j", "2", "-M", "prepared", "-T", strconv.Itoa(int(duration.Seconds())))
	if err != nil {
		return 0, err
	}
	match := tps.FindStringSubmatch(out)
	if match == nil {
		return 0, fmt.Errorf("pgbench printed no tps:\n%s", out)
	}
	if _, err := db.ExecContext(ctx, `DROP DATABASE pgbench`); err != nil {
		return 0, err
	}
	return strconv.ParseFloat(match[1], 64)
}
