package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// maxLogBytes bounds a log file. At most one older file stands beside it.
	maxLogBytes = 16 << 20
	trimEvery   = time.Second

	tailLines = 20
	tailBytes = 8 << 10
)

// openLog opens a log file for appending, so that it can be truncated while its writer goes on.
func openLog(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
}

// trimLogs bounds the log files of a folder until ctx ends.
func trimLogs(ctx context.Context, dir string) {
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		files, _ := filepath.Glob(filepath.Join(dir, "*.log"))
		for _, file := range files {
			// It is tried again in a second.
			_ = trimLog(file, maxLogBytes)
		}
	}
}

// trimLog copies a log file that has outgrown the limit to "<file>.1" and empties it. What is written in between is
// lost: that is the price of a writer that writes to its file directly.
func trimLog(path string, limit int64) error {
	info, err := os.Stat(path)
	if err != nil || info.Size() <= limit {
		return err
	}
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.Create(path + ".1")
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close(), os.Truncate(path, 0))
}

// withTail returns an error of a part with the last lines of its log, at most 20 lines and 8 KiB.
func withTail(name, log string, err error) error {
	text, readErr := os.ReadFile(log)
	lines := strings.SplitAfter(strings.TrimSuffix(string(text[max(0, len(text)-tailBytes):]), "\n"), "\n")
	if readErr != nil || len(text) == 0 {
		return fmt.Errorf("%s: %w", name, err)
	}
	return fmt.Errorf("%s: %w; %s ends:\n%s", name, err, log, strings.Join(lines[max(0, len(lines)-tailLines):], ""))
}
