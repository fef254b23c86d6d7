package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/localkafka"
	"github.com/altyn-pay/altyn/testkit/localpostgres"
)

// startServers starts PostgreSQL and Kafka at the same time, or checks that running ones answer.
func (s *Stack) startServers() error {
	var group errgroup.Group
	for _, p := range s.ranks(stopKafka, stopPostgres) {
		group.Go(func() error {
			began := time.Now()
			if err := p.up(s.ctx); err != nil {
				return err
			}
			now := p.status()
			s.opts.Progress(fmt.Sprintf("%s is ready on %s (%s)", now.About, now.Addr(), since(began)))
			return nil
		})
	}
	if s.opts.Postgres.Running != nil {
		group.Go(func() error { return s.answers("PostgreSQL", "POSTGRES_HOST, POSTGRES_PORT", s.postgres.Address()) })
	}
	for _, broker := range s.opts.Kafka.Running {
		group.Go(func() error { return s.answers("Kafka", "KAFKA_BROKERS", broker) })
	}
	return group.Wait()
}

func since(began time.Time) time.Duration { return time.Since(began).Round(10 * time.Millisecond) }

// answers returns an error unless the user's own server answers.
func (s *Stack) answers(what, variables, addr string) error {
	ctx, cancel := context.WithTimeout(s.ctx, answerTimeout)
	defer cancel()
	if err := Ready(ctx, Part{URL: "tcp://" + addr}); err != nil {
		return fmt.Errorf("no %s answers at %s (%s): %w", what, addr, variables, err)
	}
	s.opts.Progress(fmt.Sprintf("using the %s at %s", what, addr))
	return nil
}

// PostgresSettings fit a small machine with a fast disk and override those of localpostgres. As by default, what is
// acknowledged is on disk.
var PostgresSettings = map[string]string{
	"effective_cache_size":       "768MB",
	"checkpoint_timeout":         "15min",
	"min_wal_size":               "1GB", // segments of the log are used again instead of made anew
	"random_page_cost":           "1.1",
	"log_min_duration_statement": "1s",
}

// addPostgres adds the part, unless the stack uses a running server.
func (s *Stack) addPostgres() {
	opts := s.opts.Postgres
	if opts.Apart != nil {
		return
	}
	if opts.Running != nil {
		s.postgres = *opts.Running
		return
	}
	s.postgres = pg.Config{Host: loopback, Port: opts.Port, SSLMode: "disable"}
	start := func(ctx context.Context, log io.Writer) (running, error) {
		server, err := localpostgres.Start(ctx, localpostgres.Options{
			DataDir: s.dataDir(PostgresName), Port: opts.Port, Kind: opts.Kind, Settings: PostgresSettings, NoSync: opts.NoSync,
			Log: log, Progress: s.opts.Progress,
		})
		if err != nil {
			return nil, err
		}
		s.server.Store(server)
		return postgresServer{server}, nil
	}
	s.addServer(PostgresName, s.postgres.Address(), stopPostgres, start)
}

// addServer adds a server, whose log is what start writes to.
func (s *Stack) addServer(name, addr string, rank int, start func(context.Context, io.Writer) (running, error)) {
	s.add(name, "tcp://"+addr, rank, func(ctx context.Context) (running, error) {
		log, err := openLog(s.LogFile(name))
		if err != nil {
			return nil, err
		}
		server, err := start(ctx, log)
		if err != nil {
			return nil, errors.Join(err, log.Close())
		}
		s.keepers.Go(func() {
			<-server.Done()
			log.Close()
		})
		return server, nil
	})
}

type postgresServer struct{ *localpostgres.Server }

func (r postgresServer) Stop(kill bool) error {
	if kill {
		return r.Server.Stop(localpostgres.Kill)
	}
	return r.Server.Stop(localpostgres.Fast)
}

// addKafka adds the brokers, unless the stack uses running ones.
func (s *Stack) addKafka() error {
	opts := s.opts.Kafka
	if len(opts.Running) > 0 {
		s.brokers = opts.Running
		return nil
	}
	controllers := make([]uint16, opts.Brokers)
	if opts.Brokers > 1 {
		for i := range controllers {
			var err error
			if controllers[i], err = FreePort(); err != nil {
				return err
			}
		}
	}
	for i := range opts.Brokers {
		name, port := nth(KafkaName, i), opts.Port
		var node localkafka.Node
		if opts.Brokers > 1 {
			node = localkafka.Node{ID: i + 1, Controllers: controllers}
		}
		if i > 0 {
			var err error
			if port, err = FreePort(); err != nil {
				return err
			}
		}
		s.brokers = append(s.brokers, loopbackAddr(port))
		s.addServer(name, s.brokers[i], stopKafka, func(ctx context.Context, log io.Writer) (running, error) {
			broker, err := localkafka.Start(ctx, localkafka.Options{
				DataDir: s.dataDir(name), Port: port, Kind: opts.Kind, Node: node, Listeners: s.listeners[name], Log: log,
				Progress: s.opts.Progress,
			})
			return kafkaBroker{broker}, err
		})
	}
	return nil
}

type kafkaBroker struct{ *localkafka.Broker }

func (b kafkaBroker) Stop(kill bool) error {
	if kill {
		return b.Kill()
	}
	return b.Broker.Stop()
}

// migrate makes the roles and databases, if that is up to the stack, and migrates their schemas.
func (s *Stack) migrate() error {
	ctx, cancel := context.WithTimeout(s.ctx, migrateTimeout)
	defer cancel()
	began := time.Now()
	admin := s.opts.Postgres.Admin
	if server := s.server.Load(); server != nil {
		superuser := server.Admin()
		admin = &superuser
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, service := range withDatabase {
		group.Go(func() error {
			cfg, err := s.Database(service)
			if err != nil {
				return err
			}
			admin := admin
			if apart, ok := s.opts.Postgres.Apart[service]; ok {
				admin = &apart
			}
			if admin != nil {
				if err := pg.Provision(ctx, *admin, cfg); err != nil {
					return err
				}
			}
			log := s.LogFile(service + "-migrate")
			err = run(ctx, log, filepath.Join(s.opts.Binaries, service), s.environment(service), "migrate")
			if err != nil {
				return withTail(service+" migrate", log, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	s.opts.Progress(fmt.Sprintf("the databases %s and %s are migrated (%s)", Orders, Payments, since(began)))
	return nil
}
