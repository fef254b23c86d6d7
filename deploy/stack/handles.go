package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/kafka"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/localpostgres"
)

const probeTimeout = 2 * time.Second

// Parts lists PostgreSQL and Kafka, if the stack runs them, and the instances of the services.
func (s *Stack) Parts() []Part {
	parts := make([]Part, len(s.parts))
	for i, p := range s.parts {
		parts[i] = p.status()
	}
	return parts
}

// Part returns the part with this name. An unknown name is a bug in the caller, so it panics.
func (s *Stack) Part(name string) Part { return s.part(name).status() }

func (s *Stack) part(name string) *part {
	for _, p := range s.parts {
		if p.name == name {
			return p
		}
	}
	panic(fmt.Sprintf("stack: there is no part %q", name))
}

// URL is the address of a service's instance, such as http://127.0.0.1:8080.
func (s *Stack) URL(name string) string { return s.Part(name).URL }

// AdminURL is the address of the operators' plane of a service's instance.
func (s *Stack) AdminURL(name string) string { return s.Part(name).AdminURL }

// Token gets a token of the stack's issuer.
func (s *Stack) Token(ctx context.Context, subject, tenant string, scopes ...string) (string, error) {
	return load.Token(ctx, s.issuer(), subject, tenant, scopes...)
}

// Kill ends a part by SIGKILL, like a crash (for PostgreSQL: its postmaster). It returns when the part is gone, which
// stays down until Restart. A part that is killed by other means is started again after 100 ms.
func (s *Stack) Kill(name string) error { return s.part(name).down(kill) }

// Stop ends a part by SIGTERM. It stays down until Restart.
func (s *Stack) Stop(name string) error { return s.part(name).down(stopInOrder) }

// StopPostgres ends PostgreSQL in the given mode. It stays down until Restart.
func (s *Stack) StopPostgres(mode localpostgres.StopMode) error {
	return s.part(PostgresName).down(func(run running) error { return run.(postgresServer).Server.Stop(mode) })
}

// Pause freezes a part with all its processes by SIGSTOP, until resume is called. Of what has ended by then nothing is
// resumed.
func (s *Stack) Pause(name string) (resume func() error, err error) {
	pid := s.Part(name).PID
	if pid == 0 {
		return func() error { return nil }, nil
	}
	pids := []int{pid}
	if err := signalAll(pids, syscall.SIGSTOP); err != nil {
		return nil, err
	}
	children, _ := exec.Command("pgrep", "-P", strconv.Itoa(pid)).Output() // it fails where there are none
	for text := range strings.FieldsSeq(string(children)) {
		if child, err := strconv.Atoi(text); err == nil {
			pids = append(pids, child)
		}
	}
	return func() error { return signalAll(pids, syscall.SIGCONT) }, signalAll(pids[1:], syscall.SIGSTOP)
}

func signalAll(pids []int, signal syscall.Signal) error {
	var errs []error
	for _, pid := range pids {
		if err := syscall.Kill(pid, signal); !errors.Is(err, syscall.ESRCH) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Restart starts a part, and first stops one that runs. When it returns, a server answers; an instance of a service
// has only been started, see WaitReady.
func (s *Stack) Restart(name string) error {
	if err := s.Stop(name); err != nil {
		return err
	}
	return s.part(name).up(s.ctx)
}

// WaitReady returns when the named parts are ready; without names, all parts. It waits a minute at most, also for a
// part that crashes meanwhile and comes back.
func (s *Stack) WaitReady(ctx context.Context, names ...string) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, p := range s.parts {
		if len(names) == 0 {
			group.Go(func() error { return p.awaitReady(ctx, false) })
		}
	}
	for _, name := range names {
		group.Go(func() error { return s.part(name).awaitReady(ctx, false) })
	}
	return group.Wait()
}

// Command returns a command of a program in Options.Binaries that works with this stack's databases, broker and
// operators' planes.
func (s *Stack) Command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.opts.Binaries, program), args...)
	cmd.Env = s.environment(program)
	for _, service := range slices.Backward(s.opts.Services) { // the first instance counts
		if slices.Contains(withDatabase, service.Program) {
			cmd.Env = append(cmd.Env, "ALTYN_"+strings.ToUpper(service.Program)+"_ADMIN="+s.AdminURL(service.Name))
		}
	}
	return cmd
}

// Database returns how a service (Orders, Payments) and its database's owner (pg.OpenOwner) connect.
func (s *Stack) Database(service string) (pg.Config, error) {
	cfg, err := config.LoadFrom[pg.Config](byName(s.environment(service)))
	return cfg.Defaults(service), err
}

// KafkaConfig returns how the services connect to Kafka.
func (s *Stack) KafkaConfig() (kafka.Config, error) {
	return config.LoadFrom[kafka.Config](byName(s.environment("")))
}

// Server returns the stack's PostgreSQL server, or nil if the stack uses one that ran already. A restart makes
// another Server on the same port.
func (s *Stack) Server() *localpostgres.Server { return s.server.Load() }

// Ready returns nil if a part can do its work: a service says so itself, a server accepts connections.
func Ready(ctx context.Context, part Part) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	switch scheme, addr, _ := strings.Cut(part.URL, "://"); scheme {
	case "tcp":
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		return conn.Close()
	case "https": // The API may ask for a certificate.
		_, admin, _ := strings.Cut(part.AdminURL, "://")
		return httpserver.Probe(ctx, admin, true)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, part.URL+"/readyz", nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		reason, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10))
		return fmt.Errorf("%s: %s", response.Status, reason)
	}
	return nil
}
