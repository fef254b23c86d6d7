package postgres_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/localpostgres"
	"github.com/altyn-pay/altyn/testkit/tlstest"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// secure has a server demand TLS and, of the role client, a certificate.
func secure(t *testing.T, server *localpostgres.Server, authority *tlstest.Authority) {
	t.Helper()
	info, err := os.Stat(server.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	copied := func(name, from string) string {
		t.Helper()
		text, err := os.ReadFile(from)
		path := filepath.Join(server.DataDir, name)
		if err == nil {
			err = os.WriteFile(path, text, 0o600)
		}
		if err == nil {
			err = os.Chown(path, int(owner.Uid), int(owner.Gid))
		}
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	admin, err := pg.Open(server.Admin())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	pair := authority.Issue(t, []string{"127.0.0.1"})
	hba := filepath.Join(server.DataDir, "pgdata", "pg_hba.conf")
	rules, err := os.ReadFile(hba)
	if err == nil {
		ours := "hostssl all client all cert\nhostnossl all client all reject\n"
		err = os.WriteFile(hba, append([]byte(ours), rules...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{
		`CREATE ROLE client LOGIN`,
		`ALTER SYSTEM SET ssl_cert_file = '` + copied("server.crt", pair.Cert) + `'`,
		`ALTER SYSTEM SET ssl_key_file = '` + copied("server.key", pair.Key) + `'`,
		`ALTER SYSTEM SET ssl_ca_file = '` + copied("ca.crt", authority.File) + `'`,
		`ALTER SYSTEM SET ssl = on`,
		`SELECT pg_reload_conf()`,
	} {
		if _, err := admin.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

func TestTLS(t *testing.T) {
	server, err := localpostgres.Start(t.Context(), localpostgres.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Stop(localpostgres.Immediate) }()
	ours, theirs := tlstest.NewAuthority(t), tlstest.NewAuthority(t)
	secure(t, server, ours)
	mine := ours.Issue(t, nil, tlstest.CommonName("client"))
	good := pg.Config{Host: "127.0.0.1", Port: server.Port, SSLMode: "verify-full", SSLRoots: ours.File,
		SSLCert: mine.Cert, SSLKey: mine.Key, Database: "postgres", User: "client", MaxConns: 2}
	// connect returns the name by which the server knows the client.
	connect := func(cfg pg.Config) (name string, err error) {
		t.Helper()
		if err := cfg.Validate(); err != nil {
			t.Error(err)
		}
		db, err := pg.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		err = tlstest.Reason(func() error {
			return db.GetContext(t.Context(), &name, `SELECT client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()`)
		})
		return name, err
	}
	wait.NoError(t, func() error { // the server reads its settings again
		name, err := connect(good)
		if err == nil && name != "/CN=client" {
			t.Fatalf("the server knows the client as %q", name)
		}
		return err
	})
	with := func(pair tlstest.Pair) func(*pg.Config) {
		return func(c *pg.Config) { c.SSLCert, c.SSLKey = pair.Cert, pair.Key }
	}
	for want, change := range map[string]func(*pg.Config){
		"pg_hba.conf":               func(c *pg.Config) { c.SSLMode = "disable" },
		"unknown authority":         func(c *pg.Config) { c.SSLRoots = theirs.File },
		"wanted to match localhost": func(c *pg.Config) { c.Host = "localhost" },
		"valid client certificate":  with(tlstest.Pair{}),
		"unknown certificate autho": with(theirs.Issue(t, nil, tlstest.CommonName("client"))),
		"expired certificate":       with(ours.Issue(t, nil, tlstest.CommonName("client"), tlstest.Expired)),
		"authentication failed":     with(ours.Issue(t, nil, tlstest.CommonName("somebody"))),
	} {
		cfg := good
		change(&cfg)
		if name, err := connect(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %q, %v; want %q", name, err, want)
		}
	}
}

// What is wrong with the files ends the start, not the first connection.
func TestTLSSettings(t *testing.T) {
	pair := tlstest.NewAuthority(t).Issue(t, nil)
	for mode, want := range map[os.FileMode]string{
		0o600: "", 0o400: "", 0o640: "", 0o644: "POSTGRES_SSLKEY", 0o660: "POSTGRES_SSLKEY",
	} {
		if err := os.Chmod(pair.Key, mode); err != nil {
			t.Fatal(err)
		}
		cfg := pg.Config{Host: "127.0.0.1", Port: 5432, SSLCert: pair.Cert, SSLKey: pair.Key, MaxConns: 2}
		if err := cfg.Validate(); (err == nil) != (want == "") || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%#o: %v", mode, err)
		}
	}
}
