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

// With an issuer all services take its tokens, and it lets the pages of all of them log in; AUTH=dev reaches none.
func TestIssuerOfTheStack(t *testing.T) {
	t.Setenv("AUTH", Dev)
	set := func(s *Stack, program string) map[string]string {
		return byName(s.serviceEnvironment(Service{Name: program, Program: program}))
	}
	services := Instances(1, 1, 1)
	if got := set(&Stack{opts: Options{Services: services}}, Orders)["AUTH"]; got != "" {
		t.Errorf("without an issuer AUTH is %q", got)
	}
	for i := range services {
		services[i].Addr = ":" + strconv.Itoa(9000+i)
	}
	services = append(services, Service{Name: Issuer, Program: Issuer, Addr: "127.0.0.1:9010"})
	with := &Stack{opts: Options{Services: services}}
	for _, program := range []string{Gateway, Orders, Payments} {
		if got := set(with, program); got["AUTH"] != "jwt" || got["AUTH_ISSUER"] != "http://127.0.0.1:9010" ||
			got["AUTH_AUDIENCE"] != "altyn" {
			t.Errorf("%s: AUTH is %q, of %q for %q", program, got["AUTH"], got["AUTH_ISSUER"], got["AUTH_AUDIENCE"])
		}
	}
	if got := set(with, Issuer)["ALLOWED_ORIGINS"]; !strings.HasPrefix(got,
		"http://127.0.0.1:9000,http://localhost:9000,http://127.0.0.1:9001,") {
		t.Errorf("the pages are %s", got)
	}
}
