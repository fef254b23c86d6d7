package load

import (
	"testing"
	"time"
)

func TestProgressLine(t *testing.T) {
	p := &Progress{what: "orders placed", total: 100}
	p.Add(50)
	want := "orders placed            [===============               ] 50/100  25/s"
	if got := p.line(2 * time.Second); got != want {
		t.Errorf("%q\n%q", got, want)
	}
	p.Add(70)
	want = "orders placed            [==============================] 120/100  60/s"
	if got := p.line(2 * time.Second); got != want {
		t.Errorf("%q\n%q", got, want)
	}
	endless := &Progress{what: "orders placed"}
	endless.Add(50)
	if got, want := endless.line(4*time.Second), "orders placed            50 in 4 s  12/s"; got != want {
		t.Errorf("%q\n%q", got, want)
	}
}
