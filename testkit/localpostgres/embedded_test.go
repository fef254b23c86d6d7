package localpostgres

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFetchErrors(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/archive.jar" {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, "no archive")
	}))
	defer web.Close()
	closed := httptest.NewServer(nil)
	closed.Close()

	tests := []struct{ name, url, checksum, want string }{
		{"unreachable", closed.URL + "/archive.jar", "00", "connection refused"},
		{"not there", web.URL + "/other.jar", "00", "404"},
		{"another archive", web.URL + "/archive.jar", "00", "not the expected one"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "postgresql")
			err := fetch(t.Context(), test.url, test.checksum, dir)
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), test.url) {
				t.Errorf("got %v, want %q and the address in it", err, test.want)
			}
			if left, _ := os.ReadDir(filepath.Dir(dir)); len(left) != 0 {
				t.Errorf("it left %v", left)
			}
		})
	}
}
