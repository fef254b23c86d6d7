package main

import (
	"strings"
	"testing"

	"github.com/altyn-pay/altyn/platform/config"
)

// It takes no known password for a database on another machine, as no command does.
func TestUndoneTakesNoKnownPassword(t *testing.T) {
	t.Parallel()
	var said strings.Builder
	program := config.Program{Name: name, Commands: []config.Command{undoneCommand()},
		Env: map[string]string{"POSTGRES_HOST": "db.example"}, Stderr: &said}
	code := program.Run(t.Context(), []string{"undone"})
	if code != 2 || !strings.Contains(said.String(), "POSTGRES_PASSWORD") {
		t.Errorf("exit code %d, %s", code, &said)
	}
}
