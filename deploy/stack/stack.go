package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/localkafka"
	"github.com/altyn-pay/altyn/testkit/localpostgres"
)

// Stack is a running stack. Its methods may be called by any number of goroutines.
type Stack struct {
	opts      Options
	dir       string
	temporary bool

	postgres pg.Config // where it is, not as whom
	brokers  []string
	server   atomic.Pointer[localpostgres.Server] // the last one that was started

	routes    map[string]routes // by the names of instances
	listeners map[string][]localkafka.Listener

	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	keepers sync.WaitGroup
	parts   []*part // the same from the beginning

	telling  sync.Mutex
	closing  sync.Once
	closeErr error
}

const (
	answerTimeout  = 5 * time.Second
	migrateTimeout = 3 * time.Minute
	removeTimeout  = time.Minute
)

// Start starts PostgreSQL and Kafka, makes and migrates the databases, and starts the services. It returns when
// everything is ready; after an error nothing is left running. Everything ends with Close, with ctx, or with this
// process.
//
// The first start fetches PostgreSQL, and Apache Kafka where it can run, into the user's cache folder.
func Start(ctx context.Context, opts Options) (*Stack, error) {
	s, err := prepare(ctx, opts)
	if err != nil {
		return nil, fmt.Errorf("stack: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	if err := errors.Join(s.start(), ctx.Err()); err != nil {
		stop()
		return nil, fmt.Errorf("stack: %w", errors.Join(err, s.Close()))
	}
	return s, nil
}

func prepare(ctx context.Context, opts Options) (*Stack, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	if err := opts.complete(); err != nil {
		return nil, err
	}
	dir, err := makeDir(opts.Dir)
	if err != nil {
		return nil, err
	}
	s := &Stack{opts: opts, dir: dir, temporary: opts.Dir == ""}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.addPostgres()
	if err := errors.Join(s.findRoutes(), s.addKafka()); err != nil {
		return nil, err
	}
	s.addServices()
	s.addPrometheus()
	return s, nil
}

func makeDir(dir string) (string, error) {
	if dir == "" {
		dir, err := os.MkdirTemp("", "altyn-stack-")
		if err != nil {
			return "", err
		}
		return dir, os.Chmod(dir, 0o755) // PostgreSQL may run as another user
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return dir, os.MkdirAll(dir, 0o755)
}

func (s *Stack) start() error {
	s.keepers.Go(func() { trimLogs(s.ctx, filepath.Join(s.dir, logsFolder)) })
	if err := s.startServers(); err != nil {
		return err
	}
	if err := s.migrate(); err != nil {
		return err
	}
	return s.startServices()
}

func (s *Stack) addServices() {
	for _, service := range s.opts.Services {
		rank := stopService
		if service.Program == Gateway {
			rank = stopGateway
		}
		p := s.add(service.Name, scheme(service)+dialable(service.Addr), rank, func(context.Context) (running, error) {
			return startProcess(s.LogFile(service.Name), filepath.Join(s.opts.Binaries, service.Program),
				s.serviceEnvironment(service))
		})
		p.admin = scheme(service) + dialable(service.AdminAddr)
	}
}

// startServices starts all instances at once and waits until they are ready.
func (s *Stack) startServices() error {
	group, ctx := errgroup.WithContext(s.ctx) // where one fails, the others are not waited for
	for _, p := range s.ranks(stopGateway, stopService) {
		group.Go(func() error {
			began := time.Now()
			if err := p.up(s.ctx); err != nil {
				return err
			}
			if err := p.awaitReady(ctx, true); err != nil {
				return err
			}
			s.opts.Progress(fmt.Sprintf("%s is ready on %s (%s)", p.name, p.status().Addr(), since(began)))
			return nil
		})
	}
	return group.Wait()
}

// Parts are stopped in this order: the gateway before the services, so that its requests are answered, and those
// before the servers that they use.
const (
	stopGateway = iota
	stopService
	stopKafka
	stopPostgres
)

func (s *Stack) add(name, url string, rank int, start func(context.Context) (running, error)) *part {
	p := &part{
		name: name, url: url, log: s.LogFile(name), rank: rank, start: start,
		logger: s.opts.Logger, changed: s.changed, keepers: &s.keepers,
	}
	s.parts = append(s.parts, p)
	return p
}

// changed tells Options.Changed of the parts, one call at a time, so that the last call tells of the present.
func (s *Stack) changed() {
	s.telling.Lock()
	defer s.telling.Unlock()
	s.opts.Changed(s.Parts())
}

func (s *Stack) ranks(ranks ...int) []*part {
	var parts []*part
	for _, p := range s.parts {
		if slices.Contains(ranks, p.rank) {
			parts = append(parts, p)
		}
	}
	return parts
}

// Close ends the gateway, the services, Kafka and PostgreSQL, in that order, and deletes temporary data. It usually
// takes a moment, and two and a half minutes if everything has to be killed. It may be called more than once.
func (s *Stack) Close() error {
	s.closing.Do(func() {
		s.cancel()
		var errs []error
		for rank := stopGateway; rank <= stopPostgres; rank++ {
			var group errgroup.Group
			for _, p := range s.ranks(rank) {
				group.Go(func() error { return p.down(stopInOrder) })
			}
			errs = append(errs, group.Wait())
		}
		if errors.Join(errs...) == nil { // else something does not end
			s.keepers.Wait()
		}
		if s.temporary {
			ctx, cancel := context.WithTimeout(context.Background(), removeTimeout)
			defer cancel()
			errs = append(errs, Remove(ctx, s.dir), os.RemoveAll(s.dir))
		}
		s.closeErr = errors.Join(errs...)
	})
	return s.closeErr
}

// The folders in Options.Dir.
const (
	dataFolder = "data"
	logsFolder = "logs"
)

// DataDir is the folder in Options.Dir with the data of a server.
func DataDir(dir, name string) string { return filepath.Join(dir, dataFolder, name) }

func (s *Stack) dataDir(name string) string { return DataDir(s.dir, name) }

// LogFile returns the log of a part, or of a migration (orders-migrate). At 16 MiB its content moves to the file with
// the suffix ".1" and it starts over.
func (s *Stack) LogFile(name string) string { return filepath.Join(s.dir, logsFolder, name+".log") }

// Remove deletes the data and logs of a stack in this folder (Options.Dir), but not the folder. It fails while the
// stack runs.
func Remove(ctx context.Context, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	data := filepath.Join(dir, dataFolder)
	postgresData := filepath.Join(data, PostgresName)
	kept, err := localpostgres.Folder(postgresData)
	if err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	if err := localpostgres.Remove(ctx, postgresData); err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	if kept != postgresData {
		_ = os.Remove(filepath.Dir(kept)) // fails, as it should, when there is something else in it
	}
	if err := errors.Join(os.RemoveAll(data), os.RemoveAll(filepath.Join(dir, logsFolder))); err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	return nil
}
