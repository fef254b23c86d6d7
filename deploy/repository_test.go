package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

// What the images' programs are made of is sent to the builder: of the folders of which .dockerignore leaves nearly
// everything out, it names what they need.
func TestImagesHaveTheirSources(t *testing.T) {
	text, err := os.ReadFile("../.dockerignore")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	programs := named(t, `(\./[a-z/]+/cmd/[a-z]+)`, "Dockerfile")
	arguments := append([]string{"list", "-deps", "-f", "{{.ImportPath}}"}, programs...)
	list := exec.CommandContext(t.Context(), "go", arguments...)
	list.Dir = ".."
	output, err := list.CombinedOutput()
	if err != nil || len(programs) != 5 {
		t.Fatalf("%v: %v: %s", programs, err, output)
	}
	for path := range strings.FieldsSeq(string(output)) {
		folder, ours := strings.CutPrefix(path, "github.com/altyn-pay/altyn/")
		top, _, _ := strings.Cut(folder, "/")
		if ours && !slices.Contains(lines, "!"+folder) && slices.Contains(lines, top+"/*") {
			t.Errorf("the images need %s, which .dockerignore leaves out", folder)
		}
	}
}

// A release's notes are its section of the changelog, with links that lead somewhere from outside of the repository.
func TestNotesOfARelease(t *testing.T) {
	const changelog = "# Changelog\n\n## [Unreleased]\n\n- new\n\n## [0.1.0] - 2026-12-01\n\n" +
		"- see [API](docs/api.md#rules) and [semver](https://semver.org)\n\n## [0.0.1] - 2026-11-01\n\n- old\n"
	const want = "\n- see [API](https://github.com/altyn-pay/altyn/blob/v0.1.0/docs/api.md#rules)" +
		" and [semver](https://semver.org)\n\n"
	notes := func(version string) (string, error) {
		script := exec.CommandContext(t.Context(), "tools/notes.sh", version)
		script.Stdin = strings.NewReader(changelog)
		output, err := script.Output()
		return string(output), err
	}
	if got, err := notes("0.1.0"); err != nil || got != want {
		t.Errorf("%q, want %q: %v", got, want, err)
	}
	if got, err := notes("0.2.0"); err == nil {
		t.Errorf("a version without a section has the notes %q", got)
	}
}
