package bearer_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/identity/bearer"
)

func TestCredential(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, empty := filepath.Join(dir, "token"), filepath.Join(dir, "empty")
	for name, text := range map[string]string{file: "a.b.c\n", empty: "\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		env  map[string]string
		want string
		ok   bool
	}{
		{map[string]string{}, "", true},
		{map[string]string{"ALTYN_TOKEN": "d.e.f"}, "d.e.f", true},
		{map[string]string{"ALTYN_TOKEN_FILE": file}, "a.b.c", true},
		{map[string]string{"ALTYN_TOKEN_FILE": empty}, "", false},
		{map[string]string{"ALTYN_TOKEN_FILE": file + "s"}, "", false},
		{map[string]string{"ALTYN_TOKEN_FILE": file, "ALTYN_TOKEN": "d.e.f"}, "", false},
	} {
		c, err := config.LoadFrom[bearer.Credential](test.env)
		got := ""
		if err == nil {
			got, err = c.Read()
		}
		if got != test.want || (err == nil) != test.ok {
			t.Errorf("%v: %q, %v", test.env, got, err)
		}
	}
}
