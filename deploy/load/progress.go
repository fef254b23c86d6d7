package load

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// Progress shows on a terminal how far something is: a bar that moves in place, or a line now and then where the output
// is not a terminal.
type Progress struct {
	out      io.Writer
	what     string
	total    int64
	done     atomic.Int64
	begin    time.Time
	terminal bool
	stop     chan struct{}
	stopped  chan struct{}
}

// NewProgress begins to show progress towards total.
func NewProgress(out *os.File, what string, total int) *Progress {
	info, err := out.Stat()
	p := &Progress{
		out: out, what: what, total: int64(total), begin: time.Now(), stop: make(chan struct{}), stopped: make(chan struct{}),
		terminal: err == nil && info.Mode()&os.ModeCharDevice != 0,
	}
	go p.run()
	return p
}

// Add says that n more are done.
func (p *Progress) Add(n int) { p.done.Add(int64(n)) }

// Close shows the last state and ends.
func (p *Progress) Close() {
	close(p.stop)
	<-p.stopped
}

func (p *Progress) run() {
	defer close(p.stopped)
	interval := 5 * time.Second
	if p.terminal {
		interval = 100 * time.Millisecond
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			p.show("")
		case <-p.stop:
			p.show("\n")
			return
		}
	}
}

func (p *Progress) show(end string) {
	const width = 30
	done := p.done.Load()
	filled := int(width * min(done, p.total) / max(p.total, 1))
	line := fmt.Sprintf("%-24s [%s%s] %d/%d  %.0f/s", p.what, strings.Repeat("=", filled), strings.Repeat(" ", width-filled),
		done, p.total, float64(done)/time.Since(p.begin).Seconds())
	if p.terminal {
		fmt.Fprint(p.out, "\r"+line+end)
	} else {
		fmt.Fprintln(p.out, line)
	}
}
