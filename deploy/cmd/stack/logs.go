package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// maxFound bounds the lines that are shown of a log when a text is looked for: the last ones.
	maxFound = 10_000
	// lineBytes is how far from its end, per line, the end of a log is read.
	lineBytes = 4 << 10
)

// logLine is a line of a part's log.
type logLine struct {
	part string
	at   time.Time // of a line without a time, that of the line before
	text []byte
}

// logs prints the last lines of the named parts' logs, or of all, in the order of their times; with a text to find, the
// lines that have it. With follow it then prints what comes, until ctx ends.
func (c *client) logs(ctx context.Context, s logging) error {
	files, err := filepath.Glob(filepath.Join(c.at.logs(), "*.log"))
	if err != nil || len(files) == 0 && len(s.Parts) == 0 {
		return err
	}
	known := make([]string, len(files))
	width := 0
	for i, file := range files {
		known[i] = partOf(file)
		width = max(width, len(known[i]))
	}
	for _, name := range s.Parts {
		if !slices.Contains(known, name) {
			return fmt.Errorf("there is no log of %q; there are: %s", name, strings.Join(known, ", "))
		}
	}
	files = slices.DeleteFunc(files, func(file string) bool {
		return len(s.Parts) > 0 && !slices.Contains(s.Parts, partOf(file))
	})
	var lines []logLine
	for _, file := range files {
		some, err := readLog(file, s)
		if err != nil {
			return err
		}
		lines = append(lines, some...)
	}
	slices.SortStableFunc(lines, func(a, b logLine) int { return a.at.Compare(b.at) })
	show := func(l logLine) { fmt.Fprintf(c.out, "%-*s | %s\n", width, l.part, l.text) }
	for _, line := range lines {
		show(line)
	}
	if !s.Follow {
		return nil
	}
	var one sync.Mutex
	var following sync.WaitGroup
	errs := make([]error, len(files))
	for i, file := range files {
		following.Go(func() {
			errs[i] = follow(ctx, file, func(text []byte) {
				if bytes.Contains(text, []byte(s.Find)) {
					one.Lock()
					defer one.Unlock()
					show(logLine{part: partOf(file), text: text})
				}
			})
		})
	}
	following.Wait()
	return errors.Join(errs...)
}

func partOf(file string) string { return strings.TrimSuffix(filepath.Base(file), ".log") }

// readLog reads the last lines of a log, or the last ones that have a text.
func readLog(name string, s logging) (lines []logLine, err error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	limit, whole := s.Lines, true
	if s.Find != "" {
		limit = maxFound
	} else if info, err := file.Stat(); err == nil && info.Size() > int64(limit)*lineBytes {
		if _, err := file.Seek(-int64(limit)*lineBytes, io.SeekEnd); err != nil {
			return nil, err
		}
		whole = false
	}
	var at time.Time
	for reader := bufio.NewReader(file); ; {
		text, err := reader.ReadBytes('\n')
		if len(text) > 0 && whole {
			if t, ok := timeOf(text); ok {
				at = t
			}
			if bytes.Contains(text, []byte(s.Find)) {
				lines = append(lines, logLine{partOf(name), at, bytes.TrimSuffix(text, []byte("\n"))})
			}
			if len(lines) > 2*limit {
				lines = append(lines[:0], lines[len(lines)-limit:]...)
			}
		}
		whole = true // the first line may have been cut
		if err == io.EOF {
			return lines[max(0, len(lines)-limit):], nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// logTime finds the time of a line: that of the services, PostgreSQL or Kafka.
var logTime = regexp.MustCompile(`^(?:\{"time":"|time=|\[)?(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d[.,]?\d*) ?` +
	`(UTC|GMT|Z|[+-]\d\d:\d\d)?`)

// timeOf returns the time at which a line begins. One without a zone is local.
func timeOf(line []byte) (at time.Time, ok bool) {
	found := logTime.FindSubmatch(line[:min(len(line), 64)])
	if found == nil {
		return at, false
	}
	text, layout := string(found[1])+" "+strings.Replace(string(found[2]), ",", ".", 1), time.DateTime
	switch zone := string(found[3]); zone {
	case "UTC", "GMT", "Z":
		text, layout = text+"+00:00", layout+"-07:00"
	case "":
	default:
		text, layout = text+zone, layout+"-07:00"
	}
	at, err := time.ParseInLocation(layout, text, time.Local)
	return at, err == nil
}

// follow calls do with each line that is added to a file, also when it starts over, until ctx ends.
func follow(ctx context.Context, file string, do func(text []byte)) error {
	tail := exec.CommandContext(ctx, "tail", "-q", "-n", "0", "-F", file)
	tail.Stderr = os.Stderr
	out, err := tail.StdoutPipe()
	if err == nil {
		err = tail.Start()
	}
	if err != nil {
		return err
	}
	for reader := bufio.NewReader(out); ; {
		text, err := reader.ReadBytes('\n')
		if len(text) > 0 {
			do(bytes.TrimSuffix(text, []byte("\n")))
		}
		if err != nil {
			break
		}
	}
	if err := tail.Wait(); ctx.Err() == nil {
		return err
	}
	return nil
}
