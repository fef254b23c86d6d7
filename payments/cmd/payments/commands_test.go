package main

import (
	"strings"
	"testing"

	"github.com/altyn-pay/altyn/platform/config"
)

// The commands of payments, like all that a service has, take no known password for a database on another machine.
func TestCommandsTakeNoKnownPassword(t *testing.T) {
	t.Parallel()
	for command, variable := range map[string]string{"verify": "POSTGRES_PASSWORD",
		"seal --reason first": "POSTGRES_PASSWORD", "distribute": "POSTGRES_OWNER_PASSWORD"} {
		var said strings.Builder
		program := config.Program{Name: name, Commands: commands(), Env: map[string]string{"POSTGRES_HOST": "db.example"},
			Stderr: &said}
		code := program.Run(t.Context(), strings.Fields(command))
		if code != 2 || !strings.Contains(said.String(), variable) {
			t.Errorf("%s: exit code %d, %s", command, code, &said)
		}
	}
}
