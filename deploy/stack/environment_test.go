package stack

import (
	"os"
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

// The garbage collector is set up as in the Compose file, unless the user says how.
func TestGarbageCollectorOfAService(t *testing.T) {
	compose, err := os.ReadFile("../../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	settings := func() (set []string) {
		for _, variable := range (&Stack{}).serviceEnvironment(Service{Name: Orders, Program: Orders}) {
			name, value, _ := strings.Cut(variable, "=")
			if value != "" && (name == "GOGC" || name == "GOMEMLIMIT") {
				set = append(set, name+": "+value)
			}
		}
		return set
	}
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	ours := settings()
	if len(ours) != 2 {
		t.Errorf("set are %q", ours)
	}
	for _, setting := range ours {
		if !strings.Contains(strings.ReplaceAll(string(compose), `"`, ""), "\n  "+setting+"\n") {
			t.Errorf("the Compose file does not have %s", setting)
		}
	}
	t.Setenv("GOMEMLIMIT", "1GiB")
	if got := settings(); !slices.Equal(got, []string{"GOMEMLIMIT: 1GiB"}) {
		t.Errorf("set are %q, though the user has said how", got)
	}
}
