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

	"github.com/jmoiron/sqlx"

	pg "github.com/altyn-pay/altyn/platform/postgres"
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

// yardstick is pgbench's TPC-B on the stack's server, in a database of its own that all rounds share.
type yardstick struct {
	program string
	server  pg.Config
	admin   *sqlx.DB
}

func (b *bench) yardstick(ctx context.Context, s *site) (*yardstick, error) {
	y := &yardstick{program: b.pgbench, server: s.Server().Admin(), admin: s.admin}
	b.say("pgbench: making its tables, scale 20")
	if _, err := y.admin.ExecContext(ctx, `CREATE DATABASE pgbench`); err != nil {
		return nil, err
	}
	_, err := y.call(ctx, "-i", "-q", "-s", "20")
	return y, err
}

func (y *yardstick) drop(ctx context.Context) error {
	_, err := y.admin.ExecContext(ctx, `DROP DATABASE pgbench`)
	return err
}

func (y *yardstick) call(ctx context.Context, args ...string) (string, error) {
	args = append(args, "-h", y.server.Host, "-p", strconv.Itoa(int(y.server.Port)), "-U", y.server.User, "pgbench")
	command := exec.CommandContext(ctx, y.program, args...)
	command.Env = append(os.Environ(), "PGPASSWORD="+y.server.Password)
	out, err := command.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("pgbench: %w\n%s", errors.Join(ctx.Err(), err), out)
	}
	return string(out), nil
}

var tps = regexp.MustCompile(`tps = ([0-9.]+) \(without initial connection time\)`)

// measure returns transactions per second. As it runs before and after each workload, it takes half of the duration.
// It waits until the server is quiet; pgbench vacuums its tables first.
func (y *yardstick) measure(ctx context.Context, s *site, duration time.Duration) (float64, error) {
	if err := s.quiet(ctx); err != nil {
		return 0, err
	}
	out, err := y.call(ctx, "-c", "8", "-j", "2", "-M", "prepared", "-T", strconv.Itoa(max(int(duration.Seconds()/2), 1)))
	if err != nil {
		return 0, err
	}
	match := tps.FindStringSubmatch(out)
	if match == nil {
		return 0, fmt.Errorf("pgbench printed no tps:\n%s", out)
	}
	return strconv.ParseFloat(match[1], 64)
}
