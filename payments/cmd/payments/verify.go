package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/actions"
	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity/bearer"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/service"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

// Verify is the settings of the command verify.
type Verify struct {
	Heads    string `flag:"heads" value:"FILE" help:"compare with the heads in this file too: messages of the topic ledger.heads, one after another"`
	Archive  string `flag:"archive" value:"SCHEMA" help:"count the rows in the tables of this schema as well, to which old ones were moved"`
	Sealings int64  `flag:"sealings" value:"N" default:"1" help:"how often rows from before the chain were sealed"`
	service.Database
}

// Seal is the settings of the command seal.
type Seal struct {
	Operator  service.Operator
	Auth      bearer.Config
	Telemetry telemetry.Config
	service.Database
}

// commands are those of payments beside the ones that every service has.
func commands() []config.Command {
	verify := config.NewCommand("verify", "compare the ledger with its chain, and name the first row that differs",
		func(ctx context.Context, s Verify) error { return verify(ctx, os.Stdout, s) })
	verify.About = `It looks at one moment of the running system. The exit code is 0 if everything is as it was written, 1
if something is not, and 2 if it could not look.`
	verify.Examples = []string{"", "--heads heads.json", "--archive archive"}
	seal := config.NewCommand("seal", "add the rows to the chain that were written before there was one",
		func(ctx context.Context, s Seal) error { return seal(ctx, os.Stdout, s) })
	seal.About = `It is run once, when no version before the chain runs any more. From then on these rows are covered
too, as they are then. It runs beside the service, and again when it was interrupted.`
	return []config.Command{verify, seal, distributeCommand()}
}

// maxShown is how many differences are shown.
const maxShown = 20

func verify(ctx context.Context, out io.Writer, s Verify) error {
	v := postgres.Verifying{Sealings: s.Sealings, Archive: s.Archive}
	if s.Heads != "" {
		var err error
		if v.Heads, err = readHeads(s.Heads); err != nil {
			return config.Unseen{Err: err}
		}
	}
	begin := time.Now()
	result, err := look(s.Database, out, func(store *postgres.Store, progress func(done, all int)) (
		postgres.Verification, error) {
		v.Progress = progress
		return store.Verify(ctx, v)
	})
	if err != nil {
		return config.Unseen{Err: err}
	}
	for _, sealing := range result.Sealings {
		fmt.Fprintf(out, "%d rows from before the chain were sealed at %s\n", sealing.Items, contract.Time(sealing.At))
	}
	fmt.Fprintf(out, "%d rows and %d links with %d items were compared in %s\n", result.Rows, result.Links, result.Items,
		time.Since(begin).Round(time.Millisecond))
	if s.Archive != "" {
		fmt.Fprintf(out, "%d of the rows are in the archive %s\n", result.Archived, s.Archive)
	}
	for _, head := range v.Heads {
		fmt.Fprintf(out, "compared with the head %d of %s\n", head.Number, head.At)
	}
	if len(result.Differences) == 0 {
		_, err := fmt.Fprintln(out, "everything is as it was written")
		return err
	}
	for i, d := range result.Differences[:min(len(result.Differences), maxShown)] {
		which := "first difference: "
		if i > 0 {
			which = "another difference: "
		}
		fmt.Fprint(out, which, d.Table, " ", d.ID, " ", d.What)
		if d.Link > 0 && d.Table != "chain" {
			fmt.Fprintf(out, " (link %d)", d.Link)
		}
		fmt.Fprintln(out)
	}
	if s.Archive == "" && slices.ContainsFunc(result.Differences, func(d postgres.Difference) bool {
		return d.What == postgres.Missing && d.Table != "chain"
	}) {
		fmt.Fprintln(out, "rows that were moved to another schema are missing unless --archive names it")
	}
	more := ""
	if result.Unsearched > 0 {
		more = fmt.Sprintf(", and at least %d that were not looked for", result.Unsearched)
	}
	fmt.Fprintf(out, "%d differences%s\n", len(result.Differences), more)
	return config.Exit(1)
}

func seal(ctx context.Context, out io.Writer, s Seal) error {
	who, err := s.Operator.Identify(ctx, s.Auth, telemetry.NewLogger(os.Stderr, s.Telemetry, name))
	if err != nil {
		return err
	}
	record := func(ctx context.Context, tx *sqlx.Tx, sealing postgres.Sealing) error {
		action, err := actions.New(who, actions.Seal, fmt.Sprint(sealing.Number), s.Operator.Reason,
			map[string]int64{"rows": sealing.Items})
		if err != nil {
			return err
		}
		return actions.Append(ctx, tx, action)
	}
	n, err := look(s.Database, out, func(store *postgres.Store, progress func(done, all int)) (int64, error) {
		return store.Seal(ctx, record, progress)
	})
	if err != nil {
		return fmt.Errorf("%d rows were sealed: %w", n, err)
	}
	_, err = fmt.Fprintf(out, "%d rows were sealed\n", n)
	return err
}

// look opens the database under the service's role and tells how far do has come, every few seconds.
func look[R any](database service.Database, out io.Writer, do func(*postgres.Store, func(done, all int)) (R, error)) (
	found R, err error) {
	cfg, err := database.Service(name)
	if err != nil {
		return found, err
	}
	db, err := pg.Open(cfg)
	if err != nil {
		return found, err
	}
	defer db.Close()
	const every = 2 * time.Second
	var lock sync.Mutex
	told := time.Now()
	return do(postgres.New(db), func(done, all int) {
		lock.Lock()
		defer lock.Unlock()
		if time.Since(told) >= every {
			told = time.Now()
			fmt.Fprintf(out, "%d %%\n", 100*done/all)
		}
	})
}

// readHeads reads what was published on the topic ledger.heads: JSON objects, one after another.
func readHeads(name string) (heads []contract.LedgerHead, err error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	decoder := json.NewDecoder(bufio.NewReader(file))
	for {
		var head contract.LedgerHead
		if err := decoder.Decode(&head); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("%s: head %d: %w", name, len(heads)+1, err)
		}
		if head.Number < 1 || head.Hash == "" {
			return nil, fmt.Errorf("%s: head %d has no number or no hash", name, len(heads)+1)
		}
		heads = append(heads, head)
	}
	if len(heads) == 0 {
		return nil, fmt.Errorf("%s has no heads", name)
	}
	return heads, nil
}
