package main

import (
	"strings"
	"testing"
	"time"

	"github.com/altyn-pay/altyn/platform/contract"
)

func TestEnoughDisk(t *testing.T) {
	if err := enoughDisk(t.TempDir(), 1_000_000_000_000); err == nil ||
		!strings.Contains(err.Error(), "1,000,000,000,000 orders need") || !strings.Contains(err.Error(), "STORED") {
		t.Error(err)
	}
	if err := enoughDisk(t.TempDir()+"/none", 1); err == nil {
		t.Error("there is no such folder")
	}
}

// The entries of the system accounts are numbered per lane, in the order of the orders.
func TestFilledAccounts(t *testing.T) {
	now := time.Now()
	f := newFilling(5000, 30, now)
	if len(f.accounts) != 530 || f.begin != now.Add(-year).UnixMicro() || f.begin+f.n*f.step > now.UnixMicro() {
		t.Fatalf("%d accounts, from %d by %d", len(f.accounts), f.begin, f.step)
	}
	ranks := map[int16]int64{}
	for i, a := range f.accounts {
		ranks[a.lane]++
		if a.lane != contract.Lane(a.id) || a.rank != ranks[a.lane] || a.id.Version() != 7 || a.opened >= f.begin {
			t.Errorf("%+v", a)
		}
		if i > 0 && a.id.String() <= f.accounts[i-1].id.String() {
			t.Errorf("account %d has a lower ID than the one before", i)
		}
		if seconds, _ := a.id.Time().UnixTime(); seconds != a.opened/1_000_000 {
			t.Errorf("account %s is not of %d", a.id, a.opened)
		}
	}
	for _, a := range f.accounts {
		if a.inLane != ranks[a.lane] {
			t.Errorf("%+v is one of %d", a, ranks[a.lane])
		}
	}
	if last := f.last(30); len(last) != 30 || last[29] != f.accounts[529].id {
		t.Error(last)
	}
}
