package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// What docs/outbox-and-inbox.md quotes is in the service.
func TestTheDocumentQuotesTheService(t *testing.T) {
	const document = "../../docs/outbox-and-inbox.md"
	page, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	service, err := os.ReadFile("service.go")
	if err != nil {
		t.Fatal(err)
	}
	quotes := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllSubmatch(page, -1)
	if len(quotes) == 0 {
		t.Errorf("%s quotes nothing", document)
	}
	for _, quote := range quotes {
		if !strings.Contains(string(service), string(quote[1])) {
			t.Errorf("%s quotes what is not in service.go:\n%s", document, quote[1])
		}
	}
}
