package outbox

import (
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/contract"
)

func TestABacklogIsFullByLanes(t *testing.T) {
	const limit, share = 640, 640 / contract.Lanes
	for _, test := range []struct {
		name     string
		messages map[int16]int // by lane
		waiting  map[int16]int // those whose part takes none
		old      []int16
		full     []int16
	}{
		{"nothing", nil, nil, nil, nil},
		{"much of one lane, within the limit", map[int16]int{1: limit - 1}, nil, nil, nil},
		{"too much of one lane", map[int16]int{1: limit, 2: share - 1}, nil, nil, []int16{1}},
		{"too much altogether", map[int16]int{1: limit / 2, 2: limit / 2, 3: 1}, nil, nil, []int16{1, 2}},
		{"of a part that is away", map[int16]int{3: 1}, map[int16]int{0: limit - 100, 4: 100}, nil, []int16{0, 4}},
		{"both", map[int16]int{63: limit - 5}, map[int16]int{63: 5}, nil, []int16{63}},
		{"too old", map[int16]int{1: 1, 5: 1}, map[int16]int{2: 1, 6: 1}, []int16{5, 6}, []int16{5, 6}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := setup(t)
			store := func(into string, list map[int16]int) {
				for lane, n := range list {
					age := time.Minute - time.Second*30
					for _, old := range test.old {
						if old == lane {
							age = time.Minute + time.Second
						}
					}
					if _, err := b.Service.Exec(`INSERT INTO `+into+`
						lane, $1, 'x', clock_timestamp() - $3 * interval '1 second' FROM (SELECT $2::smallint AS lane) l`,
						n, lane, age.Seconds()); err != nil {
						t.Fatal(err)
					}
				}
			}
			store(`outbox (lane, count, messages, created_at) SELECT`, test.messages)
			store(`outbox_waiting (topic, partitions, partition, seq, lane, count, messages, created_at)
				SELECT 'topic', 1, 0, lane,`, test.waiting)
			backlog := NewBacklog(b.Service, Limits{Messages: limit, Age: time.Minute}, slog.New(slog.DiscardHandler),
				prometheus.NewRegistry())
			want := map[int16]bool{}
			for _, lane := range test.full {
				want[lane] = true
			}
			look := func() {
				t.Helper()
				if err := backlog.look(t.Context()); err != nil {
					t.Fatal(err)
				}
				for lane := range int16(contract.Lanes) {
					if got := backlog.Full(lane); got != want[lane] {
						t.Errorf("lane %d is full: %v", lane, got)
					}
				}
			}
			look()
			if _, err := b.Service.Exec(`DELETE FROM outbox`); err != nil {
				t.Fatal(err)
			}
			if _, err := b.Service.Exec(`DELETE FROM outbox_waiting`); err != nil {
				t.Fatal(err)
			}
			clear(want)
			look()
		})
	}
}

func TestLimitsAreChecked(t *testing.T) {
	if err := (Limits{Messages: contract.Lanes, Age: time.Second}).Validate(); err != nil {
		t.Error(err)
	}
	for _, limits := range []Limits{{0, time.Hour}, {-1, time.Hour}, {1000, 0}, {1000, -time.Hour}} {
		if limits.Validate() == nil {
			t.Errorf("%+v is allowed", limits)
		}
	}
}
