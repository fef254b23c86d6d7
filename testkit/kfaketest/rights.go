package kfaketest

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
)

// Grant gives users of a broker rights, as its administrator.
func Grant(t testing.TB, administrator kafka.Config, rights ...contract.Right) {
	t.Helper()
	admin := admin(t, administrator)
	for _, right := range rights {
		created, err := admin.CreateACLs(t.Context(), rule(t, right))
		if err != nil || len(created) == 0 {
			t.Fatalf("grant %+v: %v", right, err)
		}
		for _, one := range created {
			if one.Err != nil {
				t.Fatalf("grant %+v: %v", right, one.Err)
			}
		}
	}
}

// Revoke takes rights away.
func Revoke(t testing.TB, administrator kafka.Config, rights ...contract.Right) {
	t.Helper()
	admin := admin(t, administrator)
	for _, right := range rights {
		deleted, err := admin.DeleteACLs(t.Context(), rule(t, right))
		if err != nil {
			t.Fatalf("revoke %+v: %v", right, err)
		}
		for _, one := range deleted {
			if one.Err != nil || len(one.Deleted) != 1 {
				t.Fatalf("revoke %+v: %+v", right, one)
			}
		}
	}
}

// rule is a right as Kafka has it.
func rule(t testing.TB, right contract.Right) *kadm.ACLBuilder {
	t.Helper()
	rule := kadm.NewACLs().ResourcePatternType(kadm.ACLPatternLiteral).Allow("User:" + right.User).AllowHosts("*")
	if right.Prefix {
		rule.ResourcePatternType(kadm.ACLPatternPrefixed)
	}
	if right.Group {
		rule.Groups(right.Name)
	} else {
		rule.Topics(right.Name)
	}
	operations := make([]kadm.ACLOperation, len(right.Operations))
	for i, name := range right.Operations {
		operation, err := kmsg.ParseACLOperation(name)
		if err != nil {
			t.Fatalf("operation %s: %v", name, err)
		}
		operations[i] = operation
	}
	return rule.Operations(operations...)
}
