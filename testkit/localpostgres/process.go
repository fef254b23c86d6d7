package localpostgres

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"time"
)

// guard runs the server and stops it when this process ends.
//
//go:embed guard.sh
var guard string

const pollPause = 10 * time.Millisecond

// process is a postmaster under its guard.
type process struct {
	pid   int           // of the postmaster
	ended chan struct{} // closed when the guard, the postmaster and all its processes are gone
}

// startProcess starts the server and returns when it answers. After an error nothing is left of it.
func startProcess(ctx context.Context, data *folder, bin binaries, settings map[string]string,
	log io.Writer) (*process, error) {
	deleteAtEnd := ""
	if data.temporary {
		deleteAtEnd = data.path
	}
	args := []string{"-c", guard, "guard.sh", deleteAtEnd, filepath.Join(bin.dir, "postgres"), "-D", data.cluster()}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	cmd := data.user.command(context.Background(), data.path, "/bin/sh", args...) // not ctx: that ends with the start
	cmd.Stdout, cmd.Stderr = log, log
	lifeline, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	before := data.postmaster()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start /bin/sh: %w", err)
	}
	p := &process{ended: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // for the whole server: each of its processes holds the pipe of the log
		close(p.ended)
	}()

	poll := time.NewTicker(pollPause)
	defer poll.Stop()
	for {
		select {
		case <-p.ended:
			return nil, errors.New("the server ended at once")
		case <-ctx.Done():
			lifeline.Close()
			<-p.ended
			return nil, fmt.Errorf("the server was not ready in time: %w", ctx.Err())
		case <-poll.C:
			if now := data.postmaster(); now.ready && now != before {
				p.pid = now.pid
				return p, nil
			}
		}
	}
}
