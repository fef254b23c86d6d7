package localpostgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/stage"
)

// Backup copies the cluster into a new folder while the server works, as pg_basebackup does, which the embedded
// PostgreSQL lacks: by the low-level API (https://www.postgresql.org/docs/18/continuous-archiving.html). A copy needs
// the WAL that was written meanwhile: Restore reads it in Options.Archive.
func (s *Server) Backup(ctx context.Context, dir string) error {
	if err := s.backup(ctx, dir); err != nil {
		return fmt.Errorf("localpostgres: base backup: %w", err)
	}
	return nil
}

func (s *Server) backup(ctx context.Context, dir string) error {
	user, err := serverAccount()
	if err != nil {
		return err
	}
	db, err := s.open()
	if err != nil {
		return err
	}
	defer db.Close()
	session, err := db.Connx(ctx) // a backup ends with the session that began it
	if err != nil {
		return err
	}
	defer session.Close()
	if _, err := session.ExecContext(ctx, `SELECT pg_backup_start('localpostgres', fast => true)`); err != nil {
		return err
	}
	if err := user.copyCluster(filepath.Join(s.DataDir, cluster), dir); err != nil {
		return err
	}
	var label string
	if err := session.GetContext(ctx, &label, `SELECT labelfile FROM pg_backup_stop()`); err != nil {
		return err
	}
	return user.write(filepath.Join(dir, "backup_label"), label)
}

func (s *Server) open() (*sqlx.DB, error) { return pg.OpenOwner(s.Admin()) }

// Restore is Start on new data: a copy of what Backup has made, with what Options.Archive has until a moment; the zero
// time stands for the end of the backup's own history, whatever was restored since. The server takes writes when it
// returns. Its history goes on in the same archive, unless it is that which was left.
func Restore(ctx context.Context, backup string, to time.Time, opts Options) (*Server, error) {
	user, err := serverAccount()
	if err != nil {
		return nil, fmt.Errorf("localpostgres: restore: %w", err)
	}
	settings := map[string]string{ // of this start alone
		"restore_command":        fmt.Sprintf(`cp "%s/%%f" "%%p"`, opts.Archive),
		"recovery_target_action": "promote",
		"hot_standby":            "off", // it answers when it is promoted
	}
	if to.IsZero() {
		settings["recovery_target_timeline"], settings["archive_mode"] = "current", "off"
	} else {
		settings["recovery_target_time"] = to.UTC().Format("2006-01-02 15:04:05.999999+00")
	}
	maps.Copy(settings, opts.Settings)
	opts.Settings = settings
	s, err := run(ctx, opts, func(dir string) error {
		if err := user.copyCluster(backup, dir); err != nil {
			return err
		}
		return user.write(filepath.Join(dir, "recovery.signal"), "")
	})
	if err != nil {
		return nil, fmt.Errorf("localpostgres: restore: %w", err)
	}
	return s, nil
}

// standby is the standby's name, and that of its replication slot, which keeps the WAL that it does not have yet.
const standby = "standby"

// Standby is Start on new data: a copy of this server that follows it. From then on a commit counts when both have it:
// without the standby none returns. A server has one at most.
func (s *Server) Standby(ctx context.Context, opts Options) (*Server, error) {
	follower, err := s.standby(ctx, opts)
	if err != nil {
		return nil, fmt.Errorf("localpostgres: standby: %w", err)
	}
	return follower, nil
}

func (s *Server) standby(ctx context.Context, opts Options) (_ *Server, err error) {
	db, err := s.open()
	if err != nil {
		return nil, err
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, `SELECT pg_create_physical_replication_slot($1, true)`, standby); err != nil {
		return nil, err
	}
	user, err := serverAccount()
	if err != nil {
		return nil, err
	}
	follower, err := run(ctx, opts, func(dir string) error {
		if err := s.backup(ctx, dir); err != nil {
			return err
		}
		admin := s.Admin()
		settings := fmt.Sprintf("primary_slot_name = '%s'\n"+
			"primary_conninfo = 'application_name=%[1]s host=%s port=%d user=%s password=%s'\n",
			standby, admin.Host, admin.Port, admin.User, admin.Password)
		return errors.Join(user.write(filepath.Join(dir, "standby.signal"), ""),
			user.write(filepath.Join(dir, "postgresql.auto.conf"), settings))
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, follower.Stop(Immediate))
		}
	}()
	for _, statement := range []string{
		`ALTER SYSTEM SET synchronous_standby_names = '` + standby + `'`, `SELECT pg_reload_conf()`,
	} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return nil, err
		}
	}
	return follower, awaitSync(ctx, db)
}

// syncTimeout bounds the wait for a standby that has all commits.
const (
	syncTimeout = time.Minute
	syncPause   = 20 * time.Millisecond
)

// awaitSync waits until commits wait for the standby.
func awaitSync(ctx context.Context, db *sqlx.DB) error {
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	for {
		var sync bool
		if err := db.GetContext(ctx, &sync,
			`SELECT count(*) > 0 FROM pg_stat_replication WHERE sync_state = 'sync'`); err != nil || sync {
			return err
		}
		if !stage.Wait(ctx, syncPause) {
			return fmt.Errorf("the standby does not catch up: %w", ctx.Err())
		}
	}
}

// Promote makes a standby a server of its own. The one that it followed must be gone.
func (s *Server) Promote(ctx context.Context) error {
	db, err := s.open()
	if err != nil {
		return err
	}
	defer db.Close()
	var promoted bool
	if err := db.GetContext(ctx, &promoted, `SELECT pg_promote()`); err != nil {
		return fmt.Errorf("localpostgres: promote: %w", err)
	}
	if !promoted { // after a minute
		return errors.New("localpostgres: the standby was not promoted in time")
	}
	return nil
}

// What a copy of a cluster begins without: the server's process, and the content of folders that belong to its run.
var (
	notCopied = []string{"postmaster.pid", "postmaster.opts"}
	emptied   = []string{"pg_wal", "pg_replslot", "pg_dynshmem", "pg_notify", "pg_serial", "pg_snapshots", "pg_stat_tmp",
		"pg_subtrans"}
)

// copyCluster copies a cluster into a new folder of the account's. Files may come, change and go meanwhile.
func (a account) copyCluster(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path != from {
			return nil
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, name)
		switch {
		case slices.Contains(notCopied, name):
			return nil
		case entry.IsDir():
			if err := errors.Join(os.Mkdir(target, 0o700), a.own(target)); err != nil {
				return err
			}
			if slices.Contains(emptied, name) {
				return fs.SkipDir
			}
			return nil
		}
		if err := copyFile(path, target); !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(err, a.own(target))
		}
		return nil
	})
}

func copyFile(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Close())
}

// write writes a file of the account's.
func (a account) write(path, text string) error {
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	return a.own(path)
}
