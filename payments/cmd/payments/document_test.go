package main

import (
	"os"
	"strings"
	"testing"

	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

const (
	configurationPage = "../../../docs/configuration.md"
	schemaPage        = "../../../docs/schema.md"
	flowsPage         = "../../../docs/flows.md"
)

func TestConfigurationHasEveryVariable(t *testing.T) {
	text, err := os.ReadFile(configurationPage)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range config.Variables[Config]() {
		if !strings.Contains(string(text), v.Row()) {
			t.Errorf("%s lacks the row\n%s", configurationPage, v.Row())
		}
	}
}

func TestDocumentHasTheSchema(t *testing.T) {
	postgrestest.CheckDiagram(t, postgrestest.Database(t, name, postgres.Migrations()...).Owner, schemaPage)
}
