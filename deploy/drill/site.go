// Package drill does what docs/restoring.md says, with real archives of the WAL, and checks what becomes of everything
// that clients were told: a database is lost under load and gets the state of a moment before, while the other one and
// the broker go on.
package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/altyn-pay/altyn/deploy/stack"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/stage"
	"github.com/altyn-pay/altyn/testkit/localkafka"
	"github.com/altyn-pay/altyn/testkit/localpostgres"
)

// Options of a Site.
type Options struct {
	Binaries string // the folder of the programs, see stack.Build
	Kafka    localkafka.Kind
	NoSync   bool     // of PostgreSQL
	Env      []string // of the services, beside what makes them a part of the stack
	// Progress is told in a line what is being done; nil for silence.
	Progress func(string)
}

// Site is a stack whose services have a PostgreSQL server each, which keeps its WAL in an archive.
type Site struct {
	*stack.Stack
	Steps []Step // of the runbook that were done, in their order

	progress func(string)
	dir      string
	servers  map[string]*server // by service
}

// Step is a step that was done.
type Step struct {
	Name string        `json:"name"`
	Took time.Duration `json:"took_ns"`
}

type server struct {
	*localpostgres.Server
	opts    localpostgres.Options // with which it was started
	standby *localpostgres.Server // nil where there is none
}

var services = []string{stack.Orders, stack.Payments}

// Start starts a site with temporary data, which Close deletes.
func Start(ctx context.Context, opts Options) (_ *Site, err error) {
	if opts.Progress == nil {
		opts.Progress = func(string) {}
	}
	s := &Site{progress: opts.Progress, servers: map[string]*server{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.dir, err = os.MkdirTemp("", "altyn-drill-"); err != nil {
		return nil, err
	}
	if err := os.Chmod(s.dir, 0o755); err != nil { // PostgreSQL may run as another user
		return nil, err
	}
	apart := map[string]pg.Config{}
	for _, service := range services {
		port, err := stack.FreePort()
		if err != nil {
			return nil, err
		}
		o := localpostgres.Options{DataDir: filepath.Join(s.dir, service), Port: port, Settings: stack.PostgresSettings,
			Archive: filepath.Join(s.dir, service+"-archive"), NoSync: opts.NoSync, Progress: opts.Progress}
		running, err := localpostgres.Start(ctx, o)
		if err != nil {
			return nil, err
		}
		s.servers[service], apart[service] = &server{Server: running, opts: o}, running.Admin()
	}
	instances := stack.Instances(1, 1, 0)
	for i := range instances {
		instances[i].Env = opts.Env
	}
	s.Stack, err = stack.Start(ctx, stack.Options{Binaries: opts.Binaries, Postgres: stack.Postgres{Apart: apart},
		Kafka: stack.Kafka{Kind: opts.Kafka}, Services: instances, Progress: opts.Progress})
	return s, err
}

// Close ends everything and deletes the data.
func (s *Site) Close() error {
	var errs []error
	if s.Stack != nil {
		errs = append(errs, s.Stack.Close())
	}
	for _, server := range s.servers {
		errs = append(errs, server.Stop(localpostgres.Immediate))
		if server.standby != nil {
			errs = append(errs, server.standby.Stop(localpostgres.Immediate))
		}
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}

// Backup takes a base backup of a service's database.
func (s *Site) Backup(ctx context.Context, service string) error {
	return s.step("take a base backup of "+service, func() error {
		dir := s.backup(service)
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		return s.servers[service].Backup(ctx, dir)
	})
}

func (s *Site) backup(service string) string { return filepath.Join(s.dir, service+"-backup") }

// Restore has a service that was stopped lose its database, which gets the state of a moment since the last backup:
// steps 2 to 4 of the runbook. PostgreSQL is stopped in order, so that the archive has all of its WAL.
func (s *Site) Restore(ctx context.Context, service string, to time.Time) error {
	db := s.servers[service]
	return s.steps([]todo{
		{"lose its database", func() error {
			return errors.Join(db.Stop(localpostgres.Fast), os.RemoveAll(db.DataDir))
		}},
		{"2 restore the database", func() error {
			db.opts.DataDir += "-again"
			restored, err := localpostgres.Restore(ctx, s.backup(service), to, db.opts)
			if err == nil {
				db.Server = restored
			}
			return err
		}},
		{"3 tell " + service, func() error {
			return s.run(ctx, service, "restored", "--to", to.UTC().Format(time.RFC3339Nano), "--reason", "a drill")
		}},
		{"4 start " + service, func() error { return errors.Join(s.Restart(service), s.WaitReady(ctx, service)) }},
	})
}

// Gone lists what a service was told and its restored database does not know: step 7 of the runbook. For that the lost
// database is restored once more beside it, to its end.
func (s *Site) Gone(ctx context.Context, service string, since time.Time) (lines []string, err error) {
	err = s.step("7 list what is gone of "+service, func() (err error) {
		opts := s.servers[service].opts
		opts.DataDir += "-lost"
		if opts.Port, err = stack.FreePort(); err != nil {
			return err
		}
		lost, err := localpostgres.Restore(ctx, s.backup(service), time.Time{}, opts)
		if err != nil {
			return err
		}
		defer func() {
			err = errors.Join(err, lost.Stop(localpostgres.Immediate), os.RemoveAll(lost.DataDir))
		}()
		output, err := s.Command(ctx, service, "gone", "--since", since.Format(time.RFC3339Nano),
			"--lost", lost.Admin().Address()).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, output)
		}
		lines = strings.Split(strings.TrimSpace(string(output)), "\n")
		return nil
	})
	return lines, err
}

// Standby gives a service's database a standby, which each commit waits for.
func (s *Site) Standby(ctx context.Context, service string) error {
	db := s.servers[service]
	return s.step("start a standby for "+service, func() (err error) {
		opts := db.opts
		opts.DataDir, opts.Archive = opts.DataDir+"-standby", ""
		if opts.Port, err = stack.FreePort(); err != nil {
			return err
		}
		db.standby, err = db.Server.Standby(ctx, opts)
		return err
	})
}

// FailOver kills the PostgreSQL of a service and has its standby take over at the same address. The service goes on
// by itself.
func (s *Site) FailOver(ctx context.Context, service string) error {
	db := s.servers[service]
	return s.steps([]todo{
		{"kill PostgreSQL of " + service, func() error { return db.Stop(localpostgres.Kill) }},
		{"promote its standby", func() error { return db.standby.Promote(ctx) }},
		{"move it to the address of the old one", func() error {
			if err := db.standby.Stop(localpostgres.Fast); err != nil {
				return err
			}
			opts := db.opts
			opts.DataDir = db.standby.DataDir
			promoted, err := localpostgres.Start(ctx, opts)
			if err == nil {
				db.Server, db.opts = promoted, opts
			}
			return err
		}},
	})
}

// agreeTimeout bounds how long both services need to agree.
const agreeTimeout = 10 * time.Minute

// Agree has both services agree, with everything at rest, and audits their books: step 5 of the runbook.
func (s *Site) Agree(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, agreeTimeout)
	defer cancel()
	if err := s.step("5 have both agree", func() error {
		for {
			output, err := s.Command(ctx, "altyn", "reconcile", "--heal", "--in-flight", "1s").CombinedOutput()
			if err == nil && strings.HasSuffix(string(output), " 0 are under way\n") {
				s.progress("  " + lastLine(output))
				return nil
			}
			if !stage.Wait(ctx, time.Second) {
				return fmt.Errorf("orders and payments do not agree: %w: %s", errors.Join(ctx.Err(), err), output)
			}
		}
	}); err != nil {
		return err
	}
	for _, service := range services {
		if err := s.step("5 audit "+service, func() error {
			return s.run(ctx, service, "audit", "--load", "100")
		}); err != nil {
			return err
		}
	}
	return nil
}

type todo struct {
	name string
	do   func() error
}

func (s *Site) steps(list []todo) error {
	for _, step := range list {
		if err := s.step(step.name, step.do); err != nil {
			return err
		}
	}
	return nil
}

// step does a step and notes how long it took.
func (s *Site) step(name string, do func() error) error {
	began := time.Now()
	if err := do(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	step := Step{name, time.Since(began)}
	s.Steps = append(s.Steps, step)
	s.progress(fmt.Sprintf("%s (%s)", step.Name, step.Took.Round(time.Millisecond)))
	return nil
}

// run runs a program of Altyn's, and passes on what it says.
func (s *Site) run(ctx context.Context, program string, args ...string) error {
	output, err := s.Command(ctx, program, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, output)
	}
	s.progress("  " + strings.ReplaceAll(strings.TrimSpace(string(output)), "\n", "\n  "))
	return nil
}

func lastLine(output []byte) string {
	text := strings.TrimSpace(string(output))
	return text[strings.LastIndexByte(text, '\n')+1:]
}
