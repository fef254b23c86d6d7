package faults

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/deploy/audit"
	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/deploy/stack"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// Options of a site. All services run the programs in Binaries.
type Options struct {
	Binaries string
	Kafka    stack.Kafka // of kind Apache, for links to the brokers that can be cut
	Services []stack.Service
	Standby  bool // PostgreSQL has a synchronous standby, which is promoted when it is killed
	Disks    bool // PostgreSQL, where it is alone, and Kafka keep their data on disks that can be full
	Clocks   bool // the clocks of the services can be wrong: Build has built them
	Progress func(string)
}

// Site is a running stack whose parts can be harmed.
type Site struct {
	*stack.Stack
	Client           *load.Client // of the gateway
	Orders, Payments *sqlx.DB     // as their owners, for audits; not by way of a link

	dir      string
	binaries string
	kafka    stack.Kafka
	couple   *couple // or nil
	links    []*Link
	clocks   map[string]Clock
	disks    map[string]*Disk
}

// diskBytes is the size of a disk. What is not used costs nothing.
const diskBytes = 8 << 30

// Start starts a stack of its own, on free ports and with temporary data. Close ends it.
func Start(ctx context.Context, opts Options) (_ *Site, err error) {
	s := &Site{binaries: opts.Binaries, kafka: opts.Kafka, clocks: make(map[string]Clock), disks: make(map[string]*Disk)}
	if s.dir, err = os.MkdirTemp("", "altyn-faults-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := os.Chmod(s.dir, 0o755); err != nil { // PostgreSQL may run as another user
		return nil, err
	}
	opts.Services = slices.Clone(opts.Services)
	for i := range opts.Services {
		service := &opts.Services[i]
		if !opts.Clocks {
			break
		}
		clock, err := NewClock(filepath.Join(s.dir, service.Name+".clock"))
		if err != nil {
			return nil, err
		}
		s.clocks[service.Name] = clock
		service.Env = append(slices.Clone(service.Env), clock.Env())
	}
	var postgres stack.Postgres
	servers := stack.Brokers(opts.Kafka)
	if opts.Standby {
		if s.couple, err = startCouple(ctx, stack.DataDir(s.dir, ""), opts.Progress); err != nil {
			return nil, err
		}
		postgres = s.couple.postgres()
	} else {
		servers = append(servers, stack.PostgresName)
	}
	if opts.Disks {
		for _, name := range servers {
			disk, err := Mount(stack.DataDir(s.dir, name), diskBytes)
			if err != nil {
				return nil, err
			}
			s.disks[name] = disk
		}
	}
	if s.Stack, err = stack.Start(ctx, stack.Options{
		Dir: s.dir, Binaries: opts.Binaries, Postgres: postgres, Kafka: opts.Kafka, Services: opts.Services,
		Progress: opts.Progress,
		Link: func(from, to, addr string) (string, error) {
			link, err := NewLink(from, to, addr)
			if err != nil {
				return "", err
			}
			s.links = append(s.links, link)
			return link.Addr, nil
		},
	}); err != nil {
		return nil, err
	}
	s.Client = load.New(s.URL(stack.Gateway))
	for name, db := range map[string]**sqlx.DB{stack.Orders: &s.Orders, stack.Payments: &s.Payments} {
		cfg, err := s.Database(name)
		if err != nil {
			return nil, err
		}
		if *db, err = pg.OpenOwner(cfg); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Close ends everything and deletes the data.
func (s *Site) Close() error {
	var errs []error
	if s.Client != nil {
		s.Client.Close()
	}
	for _, db := range []*sqlx.DB{s.Orders, s.Payments} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if s.Stack != nil {
		errs = append(errs, s.Stack.Close())
	}
	for _, link := range s.links {
		errs = append(errs, link.Close())
	}
	if s.couple != nil {
		errs = append(errs, s.couple.close())
	}
	for _, disk := range s.disks {
		errs = append(errs, disk.Unmount())
	}
	ctx, cancel := context.WithTimeout(context.Background(), removeTimeout)
	defer cancel()
	return errors.Join(append(errs, stack.Remove(ctx, s.dir), os.RemoveAll(s.dir))...)
}

const removeTimeout = time.Minute

// Link returns the link between two parts, or nil where there is none.
func (s *Site) Link(from, to string) *Link {
	for _, link := range s.links {
		if link.From == from && link.To == to {
			return link
		}
	}
	return nil
}

// About says which servers there are.
func (s *Site) About() string {
	var texts []string
	if s.couple != nil {
		texts = append(texts, s.couple.first.String()+" with a synchronous standby")
	}
	for _, part := range s.Parts() {
		if _, server := strings.CutPrefix(part.URL, "tcp://"); server {
			texts = append(texts, part.About)
		}
	}
	return strings.Join(texts, ", ")
}

// Audit waits until nothing moves any more, and then audits the books: each service's own, and both against each other.
func (s *Site) Audit(ctx context.Context) (audit.Report, error) {
	return audit.AtRest(ctx, s.Orders, s.Payments, audit.Of(s.Stack))
}

// Reconcile runs altyn reconcile.
func (s *Site) Reconcile(ctx context.Context) error {
	return run(ctx, filepath.Join(s.binaries, "altyn"), "reconcile", "--in-flight", "1s",
		"--orders", s.AdminURL(stack.Orders), "--payments", s.AdminURL(stack.Payments))
}

// Fault is a way to harm a part, or the link between two.
type Fault struct {
	Kind Kind
	Of   string // what is harmed, by one fault at a time
	How  string // may be empty
	// Begin begins it; end ends it, and returns once what was ended has been started again.
	Begin func() (end func() error, err error)
}

func (f Fault) String() string {
	if f.How == "" {
		return string(f.Kind) + ": " + f.Of
	}
	return string(f.Kind) + ": " + f.Of + ", " + f.How
}

// Kind is a kind of faults.
type Kind string

// The kinds.
const (
	Killed Kind = "killed"    // by SIGKILL, and started again
	Lost   Kind = "lost"      // PostgreSQL, by SIGKILL; its standby is promoted
	Paused Kind = "paused"    // by SIGSTOP, and resumed
	Cut    Kind = "cut"       // nothing passes, one way or both; what was sent comes later, or never
	Full   Kind = "disk full" // no block is left
	Wrong  Kind = "clock"     // steps to a wrong time, and back
)

// Kinds lists the kinds.
func Kinds() []Kind { return []Kind{Killed, Lost, Paused, Cut, Full, Wrong} }

// steps are by how much a clock becomes wrong. Kafka refuses messages of more than an hour ahead.
var steps = []time.Duration{time.Hour, -time.Hour, 2 * time.Hour, -time.Minute}

// restartTries bounds the tries to start a server on a machine that has too much to do to start it in time.
const restartTries = 3

// again starts a part again.
func (s *Site) again(name string) (err error) {
	for range restartTries {
		if err = s.Restart(name); err == nil {
			return nil
		}
	}
	return err
}

// Faults lists all faults that the site can have, always in the same order.
func (s *Site) Faults() (faults []Fault) {
	for _, part := range s.Parts() {
		name := part.Name
		faults = append(faults,
			Fault{Killed, name, "", func() (func() error, error) {
				return func() error { return s.again(name) }, s.Kill(name)
			}},
			Fault{Paused, name, "", func() (func() error, error) { return s.Pause(name) }})
		if disk := s.disks[name]; disk != nil {
			faults = append(faults, Fault{Full, name, "", func() (func() error, error) { return disk.Free, disk.Fill() }})
		}
		clock, ok := s.clocks[name]
		for _, by := range steps {
			if ok {
				faults = append(faults, Fault{Wrong, "clock of " + name, by.String(), func() (func() error, error) {
					return func() error { return clock.Set(0) }, clock.Set(by)
				}})
			}
		}
	}
	if s.couple != nil {
		faults = append(faults, Fault{Lost, stack.PostgresName, "", s.couple.fault})
	}
	for _, link := range s.links {
		of := link.From + " to " + link.To
		for _, ways := range []Way{There, Back, Both} {
			faults = append(faults,
				Fault{Cut, of, ways.String(), func() (func() error, error) {
					link.Cut(ways)
					return func() error { link.Cut(0); return nil }, nil
				}},
				Fault{Cut, of, ways.String() + ", for good", func() (func() error, error) {
					link.Cut(ways)
					return func() error { link.Reset(); link.Cut(0); return nil }, nil
				}})
		}
	}
	return faults
}
