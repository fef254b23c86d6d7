package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/deploy/audit"
	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/platform/config"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/stage"
)

// scale starts more payments-workers. Payments must answer every request meanwhile.
func (t *trial) scale(ctx context.Context) error {
	const workers = 3
	service := load.New(payments)
	defer service.Close()
	scaled := make(chan error, 1)
	go func() {
		scaled <- t.compose(ctx, "up", "--detach", "--wait", "--no-build", "--no-recreate",
			"--scale", "payments-worker="+strconv.Itoa(workers))
	}()
	for done := false; !done; {
		select {
		case err := <-scaled:
			if err != nil {
				return err
			}
			done = true
		case <-time.After(50 * time.Millisecond):
			if err := service.Call("GET", "/api/v1/currencies", "", nil, nil); err != nil {
				return errors.Join(err, <-scaled)
			}
		}
	}
	running, err := t.containers(ctx, "payments-worker")
	if err == nil && len(running) != workers {
		err = fmt.Errorf("%d containers of payments-worker, not %d", len(running), workers)
	}
	return err
}

// outages kills one part after the other while orders come in, and checks the outcome. On an account with enough
// money all orders must be paid; on one with money for some, exactly so many, down to a balance of zero.
func (t *trial) outages(ctx context.Context) error {
	const enough, some = 1_000_000, 100
	var accounts [3]uuid.UUID
	for i, funds := range []int{enough, some, enough} {
		var err error
		if accounts[i], err = t.client.fund(ctx, funds); err != nil {
			return err
		}
	}
	rich, poor, probe := accounts[0], accounts[1], accounts[2]

	c := &crowd{client: t.client, accounts: []uuid.UUID{rich, poor}, accepted: map[uuid.UUID][]uuid.UUID{}}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the crowd after an error
	stop, came := make(chan struct{}), make(chan error, 1)
	go func() { came <- c.run(ctx, stop) }()
	parts := []string{"payments", "payments-worker", "orders", "postgres", "kafka"}
	for _, part := range parts {
		if err := t.outage(ctx, part, c, probe); err != nil {
			return fmt.Errorf("outage of %s: %w", part, err)
		}
	}
	close(stop)
	if err := <-came; err != nil {
		return err
	}

	settling, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for account, count := range map[uuid.UUID]int{rich: len(c.accepted[rich]), poor: min(some, len(c.accepted[poor]))} {
		paid, err := c.settle(settling, account)
		if err == nil && paid != count {
			err = fmt.Errorf("%d orders of account %s are paid, not %d", paid, account, count)
		}
		if err != nil {
			return err
		}
	}
	if err := errors.Join(
		t.client.expect(ctx, rich, enough-len(c.accepted[rich])),
		t.client.expect(ctx, poor, max(0, some-len(c.accepted[poor]))),
		t.client.expect(ctx, probe, enough-len(parts)),
	); err != nil {
		return err
	}
	note("%d orders were accepted meanwhile, for %d of them there was no money", c.count(),
		max(0, len(c.accepted[poor])-some))
	return books(ctx)
}

// outage kills the containers of one part while orders come in, starts them again, and waits until an order that is
// placed afterwards is paid.
func (t *trial) outage(ctx context.Context, part string, c *crowd, account uuid.UUID) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	before := c.count()
	for c.count() < before+40 {
		if !stage.Wait(ctx, 50*time.Millisecond) {
			return fmt.Errorf("only %d orders were accepted before it: %w", c.count()-before, ctx.Err())
		}
	}

	if err := t.compose(ctx, "kill", "--signal", "SIGKILL", part); err != nil {
		return err
	}
	killed := time.Now()
	if err := t.compose(ctx, "start", part); err != nil {
		return err
	}
	if err := t.client.pay(ctx, account); err != nil {
		return err
	}
	note("%s killed; %.1f s later a new order was paid", part, time.Since(killed).Seconds())
	return nil
}

// books audits the two databases, which come to rest a moment after the last order is final.
func books(ctx context.Context) error {
	var databases [2]*sqlx.DB
	var server pg.Config
	for i, service := range []string{"orders", "payments"} {
		// The addresses and passwords of the Compose file are the services' defaults.
		cfg, err := config.LoadFrom[pg.Config](nil)
		if err != nil {
			return err
		}
		if databases[i], err = pg.Open(cfg.Defaults(service)); err != nil {
			return err
		}
		server = cfg
		defer databases[i].Close()
	}
	services, err := audit.Built(ctx, server)
	if err != nil {
		return err
	}
	_, err = audit.AtRest(ctx, databases[0], databases[1], services)
	return err
}
