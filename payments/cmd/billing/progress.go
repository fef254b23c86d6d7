package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// progress shows how far something is: a bar that moves in place on a terminal, elsewhere one line at the end.
type progress struct {
	out      io.Writer
	what     string
	total    int
	begin    time.Time
	terminal bool

	mu    sync.Mutex
	done  int
	shown time.Time
}

func newProgress(out io.Writer, what string, total int) *progress {
	p := &progress{out: out, what: what, total: total, begin: time.Now()}
	if file, ok := out.(*os.File); ok {
		info, err := file.Stat()
		p.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return p
}

// add says that one more is done.
func (p *progress) add() {
	const interval = 100 * time.Millisecond
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done++
	if p.terminal && time.Since(p.shown) > interval {
		p.show()
	}
}

// close shows the last state.
func (p *progress) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.show()
	fmt.Fprintln(p.out)
}

func (p *progress) show() {
	const width = 40
	p.shown = time.Now()
	filled := width * p.done / max(p.total, 1)
	bar := strings.Repeat("=", filled) + strings.Repeat(" ", width-filled)
	rate := float64(p.done) / time.Since(p.begin).Seconds()
	line := fmt.Sprintf("%-9s [%s] %d/%d  %.0f/s", p.what, bar, p.done, p.total, rate)
	if p.terminal {
		line = "\r" + line + "  "
	}
	fmt.Fprint(p.out, line)
}
