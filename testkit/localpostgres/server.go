package localpostgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/internal/logtail"
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
	Host    string
	Port    uint16
	Kind    Kind
	Version string // such as 18.4
	BinDir  string // initdb, pg_ctl, postgres; an installed server may have psql and pgbench there too
	DataDir string // where the data really are, see Folder; the cluster itself is in its folder pgdata
	PID     int    // of the postmaster

	process *process
	done    chan struct{}
}

// String says which server this is: "PostgreSQL 18.4 (embedded)".
func (s *Server) String() string { return fmt.Sprintf("PostgreSQL %s (%s)", s.Version, s.Kind) }

// Admin is how the superuser connects.
func (s *Server) Admin() pg.Config {
	return pg.Config{
		Host: s.Host, Port: s.Port, SSLMode: "disable",
		Database: superuser, User: superuser, Password: superuser, MaxConns: 4, Application: "admin",
	}
}

// Done is closed when the server and all its processes have ended, whether by Stop or by themselves.
func (s *Server) Done() <-chan struct{} { return s.done }

const (
	host      = "127.0.0.1"
	superuser = "postgres"

	startTimeout = 2 * time.Minute // recovery after a crash is part of it
	startTries   = 20
	startPause   = 200 * time.Millisecond
	portTries    = 5
)

// Start returns a server that answers. Where needed, it fetches the binaries, creates the data and recovers from a
// crash. It first stops a server that a killed process left on the same data, and fails if a living process runs one
// there. The server ends with Stop or with this process; ctx bounds only the start, which takes 2 minutes at most
// once the binaries are there.
func Start(ctx context.Context, opts Options) (_ *Server, err error) {
	if opts.Progress == nil {
		opts.Progress = func(string) {}
	}
	user, err := serverAccount()
	if err != nil {
		return nil, err
	}
	data, err := openFolder(opts.DataDir, user, opts.NoSync)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			data.close()
		}
	}()

	bin, err := findBinaries(ctx, opts.Kind, data.major(), user, opts.Progress)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := data.stopLeftover(ctx); err != nil {
		return nil, err
	}
	if _, err := choosePort(ctx, opts.Port); err != nil { // known before the work of initdb
		return nil, err
	}
	if err := data.initialise(ctx, bin, opts.NoSync); err != nil {
		return nil, err
	}
	return launch(ctx, opts, data, bin)
}

// launch starts the postmaster. It tries again where that helps: when another process took the free port, or when
// processes of a killed postmaster have yet to notice its death.
func launch(ctx context.Context, opts Options, data *folder, bin binaries) (*Server, error) {
	for try := 1; ; try++ {
		port, err := choosePort(ctx, opts.Port)
		if err != nil {
			return nil, err
		}
		log := &logtail.Tail{Next: opts.Log}
		process, err := startProcess(ctx, data, bin, serverSettings(port, opts), log)
		if err == nil {
			server := &Server{
				Host: host, Port: port, Kind: bin.kind, Version: bin.version, BinDir: bin.dir, DataDir: data.path,
				PID: process.pid, process: process, done: make(chan struct{}),
			}
			go func() {
				<-process.ended
				data.close()
				close(server.done)
			}()
			return server, nil
		}

		end := log.String()
		again := strings.Contains(end, "shared memory block") ||
			opts.Port == 0 && strings.Contains(end, "Address already in use")
		if !again || try == startTries {
			return nil, fmt.Errorf("localpostgres: PostgreSQL %s (%s) on the data in %s: %w; its log ends:\n%s",
				bin.version, bin.kind, data.path, err, end)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("localpostgres: %w", ctx.Err())
		case <-time.After(startPause):
		}
	}
}

// choosePort returns the port if nobody listens there; for 0 it returns any free one. It looks again at one that seems
// taken, a few times: the processes of a postmaster that was killed may have yet to notice it, and a program that is
// being started inherits the listener of an earlier look until it is executed.
func choosePort(ctx context.Context, port uint16) (uint16, error) {
	for try := 1; ; try++ {
		listener, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
		if err == nil {
			defer listener.Close()
			return uint16(listener.Addr().(*net.TCPAddr).Port), nil
		}
		err = fmt.Errorf("localpostgres: port %d is not free: %w", port, err)
		if try == portTries || !errors.Is(err, syscall.EADDRINUSE) {
			return 0, err
		}
		select {
		case <-ctx.Done():
			return 0, err
		case <-time.After(startPause):
		}
	}
}

func serverSettings(port uint16, opts Options) map[string]string {
	settings := map[string]string{
		"listen_addresses": host,
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
	if opts.NoSync {
		settings["fsync"] = "off"
		settings["full_page_writes"] = "off"
	}
	maps.Copy(settings, opts.Settings)
	return settings
}

// StopMode is how to stop a server, in PostgreSQL's terms.
type StopMode int

const (
	// Fast ends the sessions and writes everything down.
	Fast StopMode = iota
	// Immediate ends all processes at once; the next start recovers. No committed transaction is lost.
	Immediate
	// Kill is kill -9 of the postmaster, as the kernel does when memory runs out.
	Kill
)

// stopSteps are the modes in order. When one has not ended the server in time, the next follows.
var stopSteps = [...]struct {
	signal  syscall.Signal
	timeout time.Duration
}{
	Fast:      {syscall.SIGINT, 30 * time.Second},
	Immediate: {syscall.SIGQUIT, 10 * time.Second}, // the postmaster itself kills what is left after 5 s
	Kill:      {syscall.SIGKILL, 10 * time.Second},
}

// Stop ends the server and returns when all its processes are gone and temporary data are deleted, after 50 s at
// most. Stopping a server that has ended is no error.
func (s *Server) Stop(mode StopMode) error {
	for _, step := range stopSteps[mode:] {
		select {
		case <-s.done:
			return nil
		default:
		}
		for _, signal := range []syscall.Signal{step.signal, syscall.SIGCONT} { // it may be frozen by SIGSTOP
			if err := syscall.Kill(s.PID, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("localpostgres: stop process %d: %w", s.PID, err)
			}
		}
		select {
		case <-s.done:
			return nil
		case <-time.After(step.timeout):
		}
	}
	return fmt.Errorf("localpostgres: process %d has not ended", s.PID)
}
