package stack

import (
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A service shares the machine with the others, unless the user says how many cores it has.
func TestCoresOfAService(t *testing.T) {
	threads := func() (values []string) {
		for _, variable := range (&Stack{}).serviceEnvironment(Service{Name: Orders, Program: Orders}) {
			if value, ok := strings.CutPrefix(variable, "GOMAXPROCS="); ok {
				values = append(values, value)
			}
		}
		return values
	}
	t.Setenv("GOMAXPROCS", "")
	if got, want := threads(), strconv.Itoa(max(1, runtime.GOMAXPROCS(0)/2)); got[len(got)-1] != want { // the last one counts
		t.Errorf("GOMAXPROCS is %q, want %s", got, want)
	}
	t.Setenv("GOMAXPROCS", "3")
	if got := threads(); !slices.Equal(got, []string{"3"}) {
		t.Errorf("GOMAXPROCS is %q, want what the user has set", got)
	}
}
