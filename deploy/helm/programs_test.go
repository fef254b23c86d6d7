package helm

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// programs builds what the images have, and returns the folder.
func programs(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", folder,
		"./gateway/cmd/gateway", "./orders/cmd/orders", "./payments/cmd/payments", "./deploy/cmd/altyn")
	build.Dir = "../.."
	build.Env = append(os.Environ(), "GOWORK=") // this module is built without the workspace
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	return folder
}

// variable is the name of one in a program's help.
var variable = regexp.MustCompile(`\b[A-Z][A-Z0-9_]{3,}\b`)

// runtimes are variables that Go's runtime and libraries know.
var runtimes = []string{"GOGC", "GOMEMLIMIT", "SSL_CERT_FILE", "OTEL_EXPORTER_OTLP_PROTOCOL"}

// Each program knows every variable that it gets, and accepts their values and files. It listens where the probes ask.
func TestProgramsAcceptTheirSettings(t *testing.T) {
	folder := programs(t)
	help := map[string][]string{}
	for _, name := range []string{"gateway", "orders", "payments", "altyn"} {
		text, err := exec.CommandContext(t.Context(), filepath.Join(folder, name), "--help").Output()
		if err != nil {
			t.Fatal(err)
		}
		help[name] = variable.FindAllString(string(text), -1)
	}
	files := secrets(t)
	each(t, func(t *testing.T, values map[string]any) {
		objects, _ := render(t, values)
		for _, p := range pods(objects) {
			name, env := p.owner.GetName(), p.env(t)
			image, _, _ := strings.Cut(filepath.Base(p.container().Image), ":")
			given := []string{"PATH=" + os.Getenv("PATH")}
			for key, value := range env {
				if !slices.Contains(help[image], key) && !slices.Contains(runtimes, key) {
					t.Errorf("%s gets %s, which %s does not know", name, key, image)
				}
				if path, ok := strings.CutPrefix(value, "/etc/altyn/"); ok {
					value = files(t, path)
					if !slices.Contains(mounted(p), path) {
						t.Errorf("%s has no file for %s=%s", name, key, path)
					}
				}
				given = append(given, key+"="+value)
			}
			if len(mounted(p)) != strings.Count(strings.Join(given, "\n"), os.TempDir()) {
				t.Errorf("%s mounts %v", name, mounted(p))
			}
			if image == "altyn" {
				continue
			}
			// Nothing listens, so it fails, but for another reason than its settings.
			health := exec.CommandContext(t.Context(), filepath.Join(folder, image), "health")
			health.Env = given
			output, err := health.CombinedOutput()
			if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || exit.ExitCode() == 2) {
				t.Errorf("%s: %s", name, output)
			}
		}
		for _, d := range of[*appsv1.Deployment](objects) {
			listens(t, d, pod{d, d.Spec.Template}.env(t))
		}
		reaches(t, objects)
	})
}

// listens checks that a process listens on the ports of its container, beyond loopback, and that its plane is probed.
func listens(t *testing.T, d *appsv1.Deployment, env map[string]string) {
	t.Helper()
	c := d.Spec.Template.Spec.Containers[0]
	port := func(name string) string {
		i := slices.IndexFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.Name == name })
		return strconv.Itoa(int(c.Ports[i].ContainerPort))
	}
	service := strings.ToUpper(c.Name)
	if env[service+"_ADDR"] != ":"+port("http") || env[service+"_ADMIN_ADDR"] != "0.0.0.0:"+port("plane") {
		t.Errorf("%s listens on %s and %s, its ports are %v",
			d.Name, env[service+"_ADDR"], env[service+"_ADMIN_ADDR"], c.Ports)
	}
	if closed := env["AUTH"] == "jwt" && env["TLS_CERT_FILE"] != ""; !closed && env["ALTYN_OPEN"] != "true" {
		t.Errorf("%s listens on loopback alone", d.Name)
	}
	for _, probe := range []*corev1.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
		byTLS := probe.HTTPGet.Scheme == corev1.URISchemeHTTPS
		if probe.HTTPGet.Port.StrVal != "plane" || byTLS != (env["TLS_CERT_FILE"] != "") {
			t.Errorf("%s is probed by %v", d.Name, probe.HTTPGet)
		}
	}
}

// reaches checks that each URL of a service leads to one, by HTTPS where it serves that.
func reaches(t *testing.T, objects []object) {
	t.Helper()
	for _, p := range pods(objects) {
		for key, value := range p.env(t) {
			if !slices.Contains([]string{"ORDERS_URL", "PAYMENTS_URL", "ALTYN_ORDERS_ADMIN", "ALTYN_PAYMENTS_ADMIN"}, key) {
				continue
			}
			u, err := url.Parse(value)
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(of[*corev1.Service](objects), func(s *corev1.Service) bool { return s.Name == u.Hostname() })
			if i < 0 || strconv.Itoa(int(of[*corev1.Service](objects)[i].Spec.Ports[0].Port)) != u.Port() {
				t.Errorf("%s of %s leads to %s", key, p.owner.GetName(), value)
				continue
			}
			for _, q := range pods(objects) {
				if q.Labels["altyn/service"] == of[*corev1.Service](objects)[i].Labels["app.kubernetes.io/component"] {
					if byTLS := q.env(t)["TLS_CERT_FILE"] != ""; byTLS != (u.Scheme == "https") {
						t.Errorf("%s of %s is %s", key, p.owner.GetName(), value)
					}
				}
			}
		}
	}
}

// mounted are the files of a pod.
func mounted(p pod) (paths []string) {
	for _, v := range p.Spec.Volumes {
		for _, source := range v.Projected.Sources {
			if source.Secret != nil {
				paths = append(paths, source.Secret.Items[0].Path)
			} else {
				paths = append(paths, source.ConfigMap.Items[0].Path)
			}
		}
	}
	return paths
}

// secrets returns a function that makes a file of the kind that its path tells.
func secrets(t *testing.T) func(t *testing.T, path string) string {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	server.Close()
	key, err := x509.MarshalPKCS8PrivateKey(server.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	contents := map[string][]byte{
		".crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
		".key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
		".csv": []byte("POINT,0\n"),
		"":     []byte("secret"),
	}
	return func(t *testing.T, path string) string {
		t.Helper()
		name := filepath.Join(t.TempDir(), filepath.Base(path))
		if err := os.WriteFile(name, contents[filepath.Ext(path)], 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
}

// quantity reads a number of bytes.
func quantity(t *testing.T, text string) int64 {
	t.Helper()
	q, err := resource.ParseQuantity(text)
	if err != nil {
		t.Fatal(err)
	}
	return q.Value()
}
