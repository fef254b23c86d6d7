package api_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// What is another's cannot be told from what is not there by the time of the answer. For both PostgreSQL runs the same
// statements in the same order. Reads have the same rows, too; a write has at most those more that it looks up: the
// account and its balance, or the hold or operation.
func TestWhatIsAnothersTakesNoOtherWork(t *testing.T) {
	b := setup(t)
	proxy := b.Through()
	s := openShopOf(t, b)
	s.queue()
	there := s.names()
	proxy.Watch()
	for who, token := range map[string]string{
		"another tenant": s.by("market", "boss", everything), "the default tenant": s.by("default", "boss", everything),
		"another owner": s.by("shop", "bob", own),
	} {
		for _, call := range calls {
			if strings.Contains(call.path, "wait=") {
				continue // it looks again and again, as long as it is told to
			}
			ask := func(names *strings.Replacer, id uuid.UUID) ([]string, int) {
				proxy.About(uuid.Nil)
				var body any
				if call.method == "POST" {
					body = names.Replace(call.body)
				}
				if a := s.Call(call.method, names.Replace(call.path), body, "Authorization", token); a.Status != 404 {
					t.Errorf("%s %s: %d", call.method, call.path, a.Status)
				}
				return proxy.About(id)
			}
			name := regexp.MustCompile("ACCOUNT|HOLD|OPERATION|QUEUED|ORDER").FindString(call.path + call.body)
			more := 0
			if call.method == "POST" {
				more = 2
			}
			var got, want []string
			var rows, without int
			same := false
			// The first request may be what makes the lane's system balance, and whoever waits may be told just then, which
			// takes a look.
			for n := 0; n < 10 && !same; n++ {
				absent := inLaneOf(s.account)
				want, without = ask(strings.NewReplacer(name, absent.String()), absent)
				got, rows = ask(there, uuid.MustParse(there.Replace(name)))
				same = len(got) > 0 && slices.Equal(got, want) && rows >= without && rows <= without+more
			}
			if !same {
				t.Errorf("%s %s by %s, %d rows:\n%s\n\nwhere nothing is, %d rows:\n%s", call.method, call.path, who, rows,
					strings.Join(got, "\n"), without, strings.Join(want, "\n"))
			}
		}
	}
}
