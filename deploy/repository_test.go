package deploy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// Every rule of imports is about something, so that none is lost when a package is renamed.
func TestRulesOfImportsHavePackages(t *testing.T) {
	text, err := os.ReadFile("../.golangci.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Linters struct {
			Settings struct {
				Depguard struct {
					Rules map[string]struct{ Files []string }
				}
			}
		}
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	if len(config.Linters.Settings.Depguard.Rules) == 0 {
		t.Fatal("there are no rules")
	}
	for name, rule := range config.Linters.Settings.Depguard.Rules {
		for _, pattern := range rule.Files {
			path, ok := strings.CutPrefix(strings.TrimPrefix(pattern, "!"), "${base-path}/")
			if !ok {
				continue // $all, $test
			}
			found, err := filepath.Glob("../" + strings.Replace(path, "**", "*", 1))
			if err != nil || len(found) == 0 {
				t.Errorf("rule %s is about %s, of which there is nothing: %v", name, pattern, err)
			}
		}
	}
}
