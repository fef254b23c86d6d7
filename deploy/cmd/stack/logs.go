package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	followInterval = 200 * time.Millisecond
	logBlockBytes  = 64 << 10
)

// logs prints the last lines of the named parts' logs, or of all. With follow it then prints what comes, until ctx
// ends.
func (c *client) logs(ctx context.Context, names []string, lines int, follow bool) error {
	files, err := filepath.Glob(filepath.Join(c.at.logs(), "*.log"))
	if err != nil {
		return err
	}
	var followed []*followedLog
	var known []string
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".log")
		known = append(known, name)
		if len(names) == 0 || slices.Contains(names, name) {
			followed = append(followed, &followedLog{name: name, path: file})
		}
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return fmt.Errorf("there is no log of %q; there are: %s", name, strings.Join(known, ", "))
		}
	}
	for _, log := range followed {
		if err := log.last(c.out, lines); err != nil {
			return err
		}
	}
	if !follow {
		return nil
	}
	tick := time.NewTicker(followInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, log := range followed {
			if err := log.more(c.out); err != nil {
				return err
			}
		}
	}
}

// followedLog is a log file that can be printed as it grows.
type followedLog struct {
	name, path string
	offset     int64 // of the first line that was not printed
}

// last prints the last lines.
func (l *followedLog) last(out io.Writer, lines int) error {
	var kept []string
	err := l.read(func(line string) error {
		if kept = append(kept, line); len(kept) > lines {
			kept = kept[1:]
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, line := range kept {
		if _, err := fmt.Fprintf(out, "%s | %s", l.name, line); err != nil {
			return err
		}
	}
	return nil
}

// more prints what is new.
func (l *followedLog) more(out io.Writer) error {
	return l.read(func(line string) error {
		_, err := fmt.Fprintf(out, "%s | %s", l.name, line)
		return err
	})
}

// read passes on the complete lines from the offset on, and moves the offset. A file that has become shorter was
// truncated; it is read from its beginning.
func (l *followedLog) read(each func(line string) error) error {
	file, err := os.Open(l.path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if info.Size() < l.offset {
		l.offset = 0
	}
	if _, err := file.Seek(l.offset, io.SeekStart); err != nil {
		return err
	}
	for lines := bufio.NewReaderSize(file, logBlockBytes); ; {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		l.offset += int64(len(line))
		if err := each(line); err != nil {
			return err
		}
	}
}
