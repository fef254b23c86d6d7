package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

const root = "../../.."

// composeFile is what these tests look at in docker-compose.yml.
type composeFile struct {
	Services map[string]struct {
		Image       string
		Restart     string
		Environment map[string]string
		Ports       []string
		Volumes     []string
		DependsOn   any `yaml:"depends_on"`
		Healthcheck any
		Deploy      struct {
			Resources struct{ Limits struct{ Memory string } }
		}
	}
}

func readCompose(t *testing.T, text string) composeFile {
	t.Helper()
	var file composeFile
	if err := yaml.Unmarshal([]byte(text), &file); err != nil {
		t.Fatal(err)
	}
	return file
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// variables returns those that a service's --help lists.
func variables(t *testing.T, service string) []string {
	t.Helper()
	module, args := service, []string{"--help"}
	switch service {
	case "issuer":
		module = "deploy"
	case "altyn":
		module, args = "deploy", []string{"reconcile", "--help"}
	}
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"run", "./" + module + "/cmd/" + service}, args...)...)
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	help, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s --help: %v\n%s", service, err, &stderr)
	}
	flags, table, _ := strings.Cut(string(help), "Environment variables")
	var names []string
	for _, match := range slices.Concat(
		regexp.MustCompile(`(?m)^  ([A-Z][A-Z0-9_]*) `).FindAllStringSubmatch(table, -1),
		regexp.MustCompile(`\(([A-Z][A-Z0-9_]*)\)`).FindAllStringSubmatch(flags, -1)) {
		names = append(names, match[1])
	}
	if len(names) == 0 {
		t.Fatalf("%s --help names no variables:\n%s", service, help)
	}
	return names
}

// goVariables are those of Go itself, which every program has.
var goVariables = []string{"GOGC", "GOMEMLIMIT"}

// unknown lists the variables of the services' containers that the services themselves do not know.
func unknown(file composeFile, known map[string][]string) []string {
	var wrong []string
	for name, container := range file.Services {
		service, ours := ourService(container.Image)
		if !ours {
			continue
		}
		for variable := range container.Environment {
			if !slices.Contains(known[service], variable) && !slices.Contains(goVariables, variable) {
				wrong = append(wrong, name+": "+variable)
			}
		}
	}
	return slices.Sorted(slices.Values(wrong))
}

// ourService is the service in one of our images, such as altyn/orders:dev.
func ourService(image string) (string, bool) {
	service, ours := strings.CutPrefix(image, "altyn/")
	service, _, _ = strings.Cut(service, ":")
	return service, ours
}

func TestServicesKnowTheirVariables(t *testing.T) {
	text := readFile(t, "docker-compose.yml")
	known := map[string][]string{}
	for _, container := range readCompose(t, text).Services {
		if service, ours := ourService(container.Image); ours && known[service] == nil {
			known[service] = variables(t, service)
		}
	}
	if len(known) != 5 {
		t.Fatalf("docker-compose.yml runs the services %v, not orders, payments, gateway, issuer and altyn", known)
	}
	if wrong := unknown(readCompose(t, text), known); len(wrong) > 0 {
		t.Fatalf("docker-compose.yml sets variables that the services do not have (see --help): %v", wrong)
	}

	// The check finds what is misspelt in a container, and in what containers share.
	for _, misspelt := range []struct {
		right, wrong string
		found        []string
	}{
		{"ROLE", "ROLLE", []string{"payments-worker: ROLLE"}},
		{"POSTGRES_HOST", "POSTGRES_HORST", []string{
			"orders-migrate: POSTGRES_HORST", "orders: POSTGRES_HORST",
			"payments-migrate: POSTGRES_HORST", "payments-worker: POSTGRES_HORST", "payments: POSTGRES_HORST",
		}},
	} {
		file := readCompose(t, strings.ReplaceAll(text, misspelt.right+":", misspelt.wrong+":"))
		if found := unknown(file, known); !slices.Equal(found, misspelt.found) {
			t.Errorf("of %s the check finds %v, not %v", misspelt.wrong, found, misspelt.found)
		}
	}
}

// The overlay for Citus changes services that there are, by variables that they know, and adds servers that nobody else
// reaches.
func TestCitusIsAnOverlay(t *testing.T) {
	base := readCompose(t, readFile(t, "docker-compose.yml"))
	overlay := readCompose(t, readFile(t, "deploy/citus/compose.yml"))
	known := map[string][]string{"payments": variables(t, "payments")}
	var servers int
	for name, c := range overlay.Services {
		if c.Image == "" { // it changes a service
			if _, there := base.Services[name]; !there && name != "payments-distribute" {
				t.Errorf("there is no service %s to change", name)
			}
			c.Image = "altyn/payments:dev"
			overlay.Services[name] = c
			continue
		}
		servers++
		if _, tag, _ := strings.Cut(c.Image, ":"); tag == "" || tag == "latest" {
			t.Errorf("%s: the image %q names no version", name, c.Image)
		}
		if c.Deploy.Resources.Limits.Memory == "" || len(c.Ports) > 0 {
			t.Errorf("%s: memory is not limited, or a port is published", name)
		}
		for _, volume := range c.Volumes {
			if file, _, _ := strings.Cut(volume, ":"); strings.HasPrefix(file, "./") {
				readFile(t, file)
			}
		}
	}
	if wrong := unknown(overlay, known); len(wrong) > 0 || servers != 4 {
		t.Errorf("%d servers; unknown variables: %v", servers, wrong)
	}
}

func TestContainersAreBounded(t *testing.T) {
	for name, c := range readCompose(t, readFile(t, "docker-compose.yml")).Services {
		if _, tag, _ := strings.Cut(c.Image, ":"); tag == "" || tag == "latest" {
			t.Errorf("%s: the image %q names no version", name, c.Image)
		}
		if c.Deploy.Resources.Limits.Memory == "" {
			t.Errorf("%s: memory is not limited", name)
		}
		for _, port := range c.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") && !strings.HasPrefix(port, "${ALTYN_BIND:-127.0.0.1}:") {
				t.Errorf("%s: %s is published on every network", name, port)
			}
		}
		if strings.HasSuffix(name, "-migrate") {
			continue
		}
		if c.Restart != "unless-stopped" {
			t.Errorf("%s: restart is %q", name, c.Restart)
		}
		// The images of the first two may have nothing to ask with, and the third one serves nothing: an alert tells of it.
		if c.Healthcheck == nil && name != "kafka-ui" && name != "jaeger" && name != "reconcile" {
			t.Errorf("%s: no health check", name)
		}
	}
}

// An empty volume becomes the user's whose container has it first. Who only reads a volume that another one writes
// starts after it, or has the same user.
func TestWhoReadsAVolumeStartsAfterWhoWritesIt(t *testing.T) {
	file := readCompose(t, readFile(t, "docker-compose.yml"))
	var shared int
	for reader, service := range file.Services {
		for _, volume := range service.Volumes {
			name, _, _ := strings.Cut(volume, ":")
			if !strings.HasSuffix(volume, ":ro") || strings.HasPrefix(name, ".") {
				continue
			}
			for writer, other := range file.Services {
				writes := func(v string) bool { return strings.HasPrefix(v, name+":") && !strings.HasSuffix(v, ":ro") }
				if !slices.ContainsFunc(other.Volumes, writes) || other.Image == "altyn/altyn:dev" { // both are 65532
					continue
				}
				shared++
				if !strings.Contains(fmt.Sprint(service.DependsOn), writer) {
					t.Errorf("%s may have the volume %s before %s", reader, name, writer)
				}
			}
		}
	}
	if shared == 0 {
		t.Error("no volume is shared")
	}
}

func TestSettingsAreDocumented(t *testing.T) {
	text := readFile(t, "docker-compose.yml")
	comment, _, _ := strings.Cut(text, "\nname:")
	for _, match := range regexp.MustCompile(`\$\{(\w+)`).FindAllStringSubmatch(text, -1) {
		if !slices.Contains(settings, match[1]) {
			t.Errorf("test-compose does not shield itself from %s: add it to settings", match[1])
		}
	}
	for _, name := range settings {
		if !strings.Contains(comment, name) {
			t.Errorf("%s is not explained at the top of docker-compose.yml", name)
		}
		if !strings.Contains(text, "${"+name) {
			t.Errorf("%s is not used in docker-compose.yml", name)
		}
	}
}

// What runs in containers is what the stack runner and the tests run without them.
func TestVersionsAreTheSameEverywhere(t *testing.T) {
	services := readCompose(t, readFile(t, "docker-compose.yml")).Services
	for _, part := range []struct{ file, pattern, image, prefix string }{
		{"testkit/localpostgres/embedded.go", `embeddedVersion = "(.+)"`, services["postgres"].Image, "postgres:"},
		{"testkit/localkafka/apache.go", `apacheVersion = "(.+)"`, services["kafka"].Image, "apache/kafka:"},
	} {
		match := regexp.MustCompile(part.pattern).FindStringSubmatch(readFile(t, part.file))
		if match == nil {
			t.Errorf("%s says no %s", part.file, part.pattern)
			continue
		}
		if part.image != part.prefix+match[1] {
			t.Errorf("docker-compose.yml runs %s, %s has version %s", part.image, part.file, match[1])
		}
	}

	var language string
	if _, err := fmt.Sscanf(readFile(t, "go.work"), "go %s", &language); err != nil {
		t.Fatal(err)
	}
	minor := language[:strings.LastIndex(language, ".")]
	if from := " golang:" + minor + "-"; !strings.Contains(readFile(t, "deploy/Dockerfile"), from) {
		t.Errorf("deploy/Dockerfile has no image%s…, but go.work says %s", from, language)
	}
}
