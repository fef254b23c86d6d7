package localpostgres

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAccountReaches(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be another account")
	}
	// The accounts are somebody else's in the eyes of the files below, which belong to whoever runs this test.
	stranger := account{uid: os.Getuid() + 1, gid: os.Getgid() + 1, instead: true}
	owner := account{uid: os.Getuid(), gid: os.Getgid(), instead: true}
	group := account{uid: os.Getuid() + 1, gid: os.Getgid(), instead: true}
	self := account{}

	root, err := filepath.EvalSymlinks("/tmp") // t.TempDir may be closed to strangers
	if err != nil {
		t.Fatal(err)
	}
	root, err = os.MkdirTemp(root, "account-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	mkdir := func(name string, mode os.FileMode) string {
		dir := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Join(dir, "below"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, "below")
	}
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	open, closed, grouped := mkdir("open", 0o755), mkdir("closed", 0o700), mkdir("grouped", 0o710)
	link := filepath.Join(root, "link")
	if err := os.Symlink(closed, link); err != nil {
		t.Fatal(err)
	}

	tests := []struct {
		name string
		who  account
		dir  string
		want bool
	}{
		{"stranger, open", stranger, open, true},
		{"stranger, closed", stranger, closed, false},
		{"stranger, behind a link", stranger, link, false},
		{"stranger, not there yet", stranger, filepath.Join(open, "a", "b"), true},
		{"stranger, not there yet, closed", stranger, filepath.Join(closed, "a", "b"), false},
		{"stranger, grouped", stranger, grouped, false},
		{"group, grouped", group, grouped, true},
		{"owner, closed", owner, closed, true},
		{"this process itself", self, closed, true},
	}
	for _, test := range tests {
		if got := test.who.reaches(test.dir); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}

	if got, err := stranger.folder(open); err != nil || got != open {
		t.Errorf("folder %s, %v", got, err)
	}
	elsewhere, err := stranger.folder(closed)
	if err != nil || !strings.HasPrefix(elsewhere, rootData) {
		t.Errorf("folder %s, %v", elsewhere, err)
	}
	if again, _ := stranger.folder(closed); again != elsewhere {
		t.Errorf("folder %s, then %s", elsewhere, again)
	}
}
