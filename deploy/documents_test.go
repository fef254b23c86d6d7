package deploy

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const operations = "../docs/operations.md"

// named returns what a pattern's group matches in files, sorted, each once.
func named(t *testing.T, pattern string, files ...string) []string {
	t.Helper()
	var names []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range regexp.MustCompile(pattern).FindAllSubmatch(text, -1) {
			names = append(names, string(match[1]))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// docs/operations.md lists the verbs that `make help` lists.
func TestVerbsAreDocumented(t *testing.T) {
	made := named(t, `(?m)^([a-z-]+):.*## `, "../Makefile")
	documented := named(t, "(?m)^\\| `make ([a-z-]+)` \\|", operations)
	if len(made) == 0 || !slices.Equal(made, documented) {
		t.Errorf("the Makefile has %v, %s %v", made, operations, documented)
	}
}

// docs/operations.md lists the metrics that the services have.
func TestMetricsAreDocumented(t *testing.T) {
	var files []string
	for _, module := range []string{"gateway", "orders", "payments", "platform", "deploy/cmd/altyn"} {
		if err := filepath.WalkDir("../"+module, func(path string, _ fs.DirEntry, err error) error {
			if strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
				files = append(files, path)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	registered := named(t, `"(altyn_[a-z_]+)"`, files...)
	documented := named(t, "`(altyn_[a-z_]+)[`{]", operations)
	for _, name := range registered {
		if !slices.Contains(documented, name) {
			t.Errorf("%s lacks %s", operations, name)
		}
	}
	for _, name := range documented {
		if !slices.Contains(registered, name) {
			t.Errorf("%s names %s, which no service has", operations, name)
		}
	}
}
