package edge

import (
	"os"
	"strings"
	"testing"

	"github.com/altyn-pay/altyn/platform/config"
)

func TestConfigurationHasEveryVariable(t *testing.T) {
	const document = "../../../docs/configuration.md"
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range config.Variables[Config]() {
		if !strings.Contains(string(text), v.Row()) {
			t.Errorf("%s lacks the row\n%s", document, v.Row())
		}
	}
}
