package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// progress shows how far something is: a bar that moves in place on a terminal, elsewhere one line at the end.
type progress struct {
	out      io.Writer
	what     string
	total    int
	done     atomic.Int64
	begin    time.Time
	terminal bool
	stop     chan struct{}
	stopped  chan struct{}
}

func newProgress(out io.Writer, what string, total int) *progress {
	p := &progress{out: out, what: what, total: total, begin: time.Now(), stop: make(chan struct{}), stopped: make(chan struct{})}
	if file, ok := out.(*os.File); ok {
		info, err := file.Stat()
		p.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	go p.run()
	return p
}

func (p *progress) add() { p.done.Add(1) }

func (p *progress) close() {
	close(p.stop)
	<-p.stopped
}

func (p *progress) run() {
	defer close(p.stopped)
	defer fmt.Fprintln(p.out)
	defer p.show()
	if !p.terminal {
		<-p.stop
		return
	}
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			p.show()
		case <-p.stop:
			return
		}
	}
}

func (p *progress) show() {
	const width = 40
	done := int(p.done.Load())
	filled := width * done / max(p.total, 1)
	line := fmt.Sprintf("%-9s [%s%s] %d/%d  %.0f/s", p.what, strings.Repeat("=", filled), strings.Repeat(" ", width-filled),
		done, p.total, float64(done)/time.Since(p.begin).Seconds())
	if p.terminal {
		line = "\r" + line + "  "
	}
	fmt.Fprint(p.out, line)
}
