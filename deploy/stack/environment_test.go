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
	threads := func(program string) (values []string) {
		for _, variable := range (&Stack{}).serviceEnvironment(Service{Name: program, Program: program}) {
			if value, ok := strings.CutPrefix(variable, "GOMAXPROCS="); ok {
				values = append(values, value)
			}
		}
		return values
	}
	cores := runtime.GOMAXPROCS(0)
	for program, want := range map[string]int{Orders: max(1, cores/2), Gateway: max(1, cores/2), Payments: cores} {
		t.Setenv("GOMAXPROCS", "")
		if got, want := threads(program), strconv.Itoa(want); got[len(got)-1] != want { // the last one counts
			t.Errorf("%s: GOMAXPROCS is %q, want %s", program, got, want)
		}
		t.Setenv("GOMAXPROCS", "3")
		if got := threads(program); !slices.Equal(got, []string{"3"}) {
			t.Errorf("%s: GOMAXPROCS is %q, want what the user has set", program, got)
		}
	}
}
