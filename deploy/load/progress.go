package load

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// Progress shows how far something is: on a terminal by a bar that moves in place, elsewhere by a line now and then.
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

// NewProgress shows the progress towards total until Close. A total of 0 is unknown and has no bar.
func NewProgress(out *os.File, what string, total int) *Progress {
	info, err := out.Stat()
	p := &Progress{
		out: out, what: what, total: int64(total), begin: time.Now(), stop: make(chan struct{}), stopped: make(chan struct{}),
		terminal: err == nil && info.Mode()&os.ModeCharDevice != 0,
	}
	go p.run()
	return p
}

// Add counts n more as done.
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
	line := p.line(time.Since(p.begin))
	if p.terminal {
		fmt.Fprint(p.out, "\r"+line+"\x1b[K"+end) // what a longer line has left behind is cleared
	} else {
		fmt.Fprintln(p.out, line)
	}
}

// line returns the line to show after so much time.
func (p *Progress) line(passed time.Duration) string {
	const width = 30
	done := p.done.Load()
	rate := float64(done) / max(passed.Seconds(), 0.001)
	if p.total <= 0 {
		return fmt.Sprintf("%-24s %d in %.0f s  %.0f/s", p.what, done, passed.Seconds(), rate)
	}
	filled := int(width * min(done, p.total) / p.total)
	return fmt.Sprintf("%-24s [%s%s] %d/%d  %.0f/s", p.what, strings.Repeat("=", filled),
		strings.Repeat(" ", width-filled),
		done, p.total, rate)
}
