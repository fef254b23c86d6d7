package main

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func TestWrongImportsAreNamed(t *testing.T) {
	packages, err := list("testdata/wrong", append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod", "GOPROXY=off"), []string{"./..."})
	if err != nil {
		t.Fatal(err)
	}
	err = check(packages)
	if err == nil {
		t.Fatal("nothing is wrong")
	}
	want := []string{
		"platform/contract imports orders/internal/order: " + knowsNone, // by its test
		"gateway/edge imports payments/docs: " + meet,
		"payments/internal/settlement imports orders/internal/order: " + meet,
		"deploy/stack imports payments/docs: " + outside,
		"testkit/kafkatest imports github.com/segmentio/kafka-go/sasl/plain: " + broker,
		"orders/internal/order imports github.com/jmoiron/sqlx: " + pure,
		"payments/internal/ledger imports net/http: " + pure,
		"payments/internal/ledger imports os: " + pure,
		"payments/internal/ledger imports platform/kafka: " + pure,
	}
	got := strings.Split(err.Error(), "\n")
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestRuleAboutNothing(t *testing.T) {
	err := check([]goPackage{{ImportPath: altyn + "platform/kafka"}, {ImportPath: altyn + "orders/api"}})
	if err == nil || !strings.Contains(err.Error(), "there is no package payments/internal/ledger") {
		t.Error(err)
	}
}

func TestPaths(t *testing.T) {
	for path, want := range map[string]bool{
		"os": true, "os/exec": true, "oslo": false, "net/http": true, "io": false, "database/sql": true, "unsafe": true,
	} {
		if got := standardIO.have(path); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}
