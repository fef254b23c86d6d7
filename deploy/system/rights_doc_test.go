package system

import (
	"os"
	"strings"
	"testing"

	"github.com/altyn-pay/altyn/platform/contract"
)

// The page has the rights that the code has, row by row.
func TestThePageHasTheRights(t *testing.T) {
	page, err := os.ReadFile("../../docs/broker-rights.md")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, right := range contract.Rights() {
		what := "topic "
		if right.Group {
			what = "group "
		}
		what += "`" + right.Name + "`"
		if right.Prefix {
			what += ", as the beginning of the name"
		}
		want = append(want, "| `"+right.User+"` | "+what+" | "+strings.Join(right.Operations, ", ")+" |")
	}
	var got []string
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, "| `") {
			got = append(got, strings.TrimSuffix(line, "\n"))
		}
	}
	if want, got := strings.Join(want, "\n"), strings.Join(got, "\n"); want != got {
		t.Errorf("docs/broker-rights.md has\n%s\nand the code\n%s", got, want)
	}
}
