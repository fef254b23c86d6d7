package postgrestest

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/lib/pq"

	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// citusShards is how many shards the tables of a test have: each node has several.
const citusShards = 8

// coordinator connects to a coordinator of Citus and to its nodes.
func coordinator(address string) (admin, error) {
	at, err := url.Parse(address)
	if err != nil {
		return admin{}, fmt.Errorf("%s: %w", CitusVariable, err)
	}
	port, err := strconv.ParseUint(at.Port(), 10, 16)
	if err != nil {
		return admin{}, fmt.Errorf("%s: %w", CitusVariable, err)
	}
	password, _ := at.User.Password()
	server := pg.Config{
		Host: at.Hostname(), Port: uint16(port), SSLMode: "disable", Database: strings.TrimPrefix(at.Path, "/"),
		User: at.User.Username(), Password: password, MaxConns: 4, Application: "postgrestest",
	}
	a := admin{server: server}
	if a.DB, err = pg.Open(server); err != nil {
		return admin{}, err
	}
	var nodes []struct {
		Name string `db:"nodename"`
		Port uint16 `db:"nodeport"`
	}
	if err := a.Select(&nodes, `SELECT nodename, nodeport FROM pg_dist_node WHERE groupid <> 0`); err != nil {
		return admin{}, err
	}
	for _, n := range nodes {
		node := admin{server: server}
		node.server.Host, node.server.Port = n.Name, n.Port
		if node.DB, err = pg.Open(node.server); err != nil {
			return admin{}, err
		}
		a.nodes = append(a.nodes, node)
	}
	return a, nil
}

// join makes the database on the nodes of Citus and has the coordinator know them. Without nodes it does nothing.
func (a admin) join(ctx context.Context, cfg pg.Config) error {
	if len(a.nodes) == 0 {
		return nil
	}
	for _, node := range a.nodes {
		if _, err := node.ExecContext(ctx, `CREATE DATABASE `+pq.QuoteIdentifier(cfg.Database)+` OWNER `+
			pq.QuoteIdentifier(cfg.Owner)); err != nil {
			return err
		}
		if err := node.in(ctx, cfg.Database, `CREATE EXTENSION citus`); err != nil {
			return err
		}
	}
	statements := []string{`CREATE EXTENSION citus`,
		fmt.Sprintf(`SELECT citus_set_coordinator_host(%s, %d)`, pq.QuoteLiteral(a.server.Host), a.server.Port)}
	for _, node := range a.nodes {
		statements = append(statements,
			fmt.Sprintf(`SELECT citus_add_node(%s, %d)`, pq.QuoteLiteral(node.server.Host), node.server.Port))
	}
	return a.in(ctx, cfg.Database, statements...)
}

// in runs statements in another database, as the superuser.
func (a admin) in(ctx context.Context, database string, statements ...string) error {
	cfg := a.server
	cfg.Database = database
	db, err := pg.Open(cfg)
	if err != nil {
		return err
	}
	defer db.Close()
	for _, statement := range statements {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// close lets nobody connect to a database of Citus any more and ends the connections that there are: Citus keeps some
// to every database that it knows, and makes them again. Elsewhere it does nothing.
func (a admin) close(ctx context.Context, database string) error {
	if len(a.nodes) == 0 {
		return nil
	}
	for _, node := range append([]admin{a}, a.nodes...) {
		if _, err := node.ExecContext(ctx, `
			ALTER DATABASE `+pq.QuoteIdentifier(database)+` ALLOW_CONNECTIONS false`); err != nil {
			return err
		}
		if _, err := node.ExecContext(ctx, `
			SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = $1`, database); err != nil {
			return err
		}
	}
	return nil
}
