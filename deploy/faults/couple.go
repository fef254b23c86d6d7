package faults

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/testkit/localpostgres"
)

// couple is PostgreSQL with a standby that has each commit before it counts. Everybody connects by way of a link, which
// leads to the first of the two.
type couple struct {
	link     *Link
	dir      string
	progress func(string)

	mu            sync.Mutex
	servers       int // that there were
	first, second *localpostgres.Server
}

// promoteTimeout bounds a promotion, and the copy for a new standby.
const promoteTimeout = 3 * time.Minute

// startCouple starts both, with their data in folders below dir.
func startCouple(ctx context.Context, dir string, progress func(string)) (_ *couple, err error) {
	c := &couple{dir: dir, progress: progress}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
		}
	}()
	if c.first, err = localpostgres.Start(ctx, c.options()); err != nil {
		return nil, err
	}
	if c.link, err = NewLink("", stack.PostgresName, c.first.Admin().Address()); err != nil {
		return nil, err
	}
	c.second, err = c.first.Standby(ctx, c.options())
	return c, err
}

// options are those of one more server.
func (c *couple) options() localpostgres.Options {
	c.servers++
	return localpostgres.Options{DataDir: filepath.Join(c.dir, fmt.Sprintf("%s-%d", stack.PostgresName, c.servers)),
		Progress: c.progress}
}

// postgres is how a stack connects.
func (c *couple) postgres() stack.Postgres {
	admin := c.first.Admin()
	running := admin
	running.Port = uint16(c.link.listener.Addr().(*net.TCPAddr).Port)
	return stack.Postgres{Running: &running, Admin: &admin}
}

// fault kills the first one. At its end the other one is promoted, and gets a standby of its own.
func (c *couple) fault() (end func() error, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.promote, c.first.Stop(localpostgres.Kill)
}

func (c *couple) promote() (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), promoteTimeout)
	defer cancel()
	if err := c.second.Promote(ctx); err != nil {
		return err
	}
	c.first, c.second = c.second, nil
	c.link.Lead(c.first.Admin().Address())
	c.second, err = c.first.Standby(ctx, c.options())
	return err
}

func (c *couple) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, server := range []*localpostgres.Server{c.second, c.first} {
		if server != nil {
			errs = append(errs, server.Stop(localpostgres.Immediate))
		}
	}
	if c.link != nil {
		errs = append(errs, c.link.Close())
	}
	return errors.Join(errs...)
}
