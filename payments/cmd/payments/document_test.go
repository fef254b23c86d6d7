package main

import (
	"os"
	"strings"
	"testing"

	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

const readme = "../../../README.md"

func TestReadmeHasEveryVariable(t *testing.T) {
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range config.Variables[Config]() {
		if !strings.Contains(string(text), v.Row()) {
			t.Errorf("%s lacks the row\n%s", readme, v.Row())
		}
	}
}

func TestReadmeHasTheSchema(t *testing.T) {
	postgrestest.CheckDiagram(t, postgrestest.Database(t, name, postgres.Migrations()...).Owner, readme)
}
