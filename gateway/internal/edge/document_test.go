package edge

import (
	"os"
	"strings"
	"testing"

	"github.com/altyn-pay/altyn/platform/config"
)

func TestReadmeHasEveryVariable(t *testing.T) {
	const readme = "../../../README.md"
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range config.Variables[Config]() {
		if !strings.Contains(string(text), v.Row()) {
			t.Errorf("%s lacks the row\n%s", readme, v.Row())
		}
	}
}
