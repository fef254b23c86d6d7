package deploy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/altyn-pay/altyn/platform/contract"
)

// resource is a KafkaTopic, a KafkaUser or a Cluster of PostgreSQL in the examples for Kubernetes.
type resource struct {
	Kind     string
	Metadata struct {
		Name   string
		Labels map[string]string
	}
	Spec yaml.Node
}

// resources reads the resources of a kind.
func resources(t *testing.T, file, kind string) (of []resource) {
	t.Helper()
	text, err := os.ReadFile("helm/examples/" + file)
	if err != nil {
		t.Fatal(err)
	}
	for documents := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var r resource
		err := documents.Decode(&r)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if r.Kind == kind {
			of = append(of, r)
		}
	}
	if len(of) == 0 {
		t.Fatalf("%s has no %s", file, kind)
	}
	return of
}

// The topics of the example are those of the contract, and one for the replies to a tenant. What is acknowledged stays.
func TestKafkaExampleHasTheTopics(t *testing.T) {
	want := append(contract.Topics(), contract.ReplyToPrefix+contract.ShopUser)
	var got []string
	for _, topic := range resources(t, "kafka.yaml", "KafkaTopic") {
		name := topic.Metadata.Name
		got = append(got, name)
		var spec struct {
			Partitions, Replicas int
			Config               map[string]any
		}
		if err := topic.Spec.Decode(&spec); err != nil {
			t.Fatal(err)
		}
		const retention = 720 * time.Hour // the default of KAFKA_RETENTION
		config := map[string]any{
			"retention.ms": int(retention.Milliseconds()), "min.insync.replicas": 2, "unclean.leader.election.enable": false,
		}
		if contract.FromAnyone(name) {
			config["message.timestamp.type"] = "LogAppendTime"
		}
		if fmt.Sprint(spec.Config) != fmt.Sprint(config) || spec.Replicas != 3 || contract.Lanes%spec.Partitions != 0 {
			t.Errorf("%s has %v", name, spec)
		}
		if topic.Metadata.Labels["strimzi.io/cluster"] != resources(t, "kafka.yaml", "Kafka")[0].Metadata.Name {
			t.Errorf("%s is of no cluster", name)
		}
	}
	slices.Sort(want)
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("the example has the topics %v, the contract %v", got, want)
	}
}

// The users of the example have the rights of the contract and no others. Nobody needs to create topics.
func TestKafkaExampleHasTheRights(t *testing.T) {
	line := func(user, kind, name, pattern string, operations []string) string {
		return fmt.Sprintln(user, kind, name, pattern, strings.Join(operations, ","))
	}
	var want, got []string
	for _, r := range contract.Rights() {
		kind, pattern := "topic", "literal"
		if r.Group {
			kind = "group"
		}
		if r.Prefix {
			pattern = "prefix"
		}
		if r.User != contract.OwnerUser {
			want = append(want, line(r.User, kind, r.Name, pattern, r.Operations))
		}
	}
	for _, user := range resources(t, "kafka.yaml", "KafkaUser") {
		var spec struct {
			Authorization struct {
				ACLs []struct {
					Resource struct {
						Type, Name string
						Pattern    string `yaml:"patternType"`
					}
					Operations []string
				} `yaml:"acls"`
			}
		}
		if err := user.Spec.Decode(&spec); err != nil {
			t.Fatal(err)
		}
		for _, acl := range spec.Authorization.ACLs {
			got = append(got,
				line(user.Metadata.Name, acl.Resource.Type, acl.Resource.Name, acl.Resource.Pattern, acl.Operations))
		}
	}
	slices.Sort(want)
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("the example has\n%v, the contract\n%v", got, want)
	}
}

// The example makes databases and roles as platform/postgres/provision.sql does. The operator sets the passwords.
func TestPostgresExampleProvisionsBothServices(t *testing.T) {
	text, err := os.ReadFile("../platform/postgres/provision.sql")
	if err != nil {
		t.Fatal(err)
	}
	sql := regexp.MustCompile(`(?m)^--.*$`).ReplaceAllString(string(text), "")
	var want []string
	logins := map[string]string{}
	for _, service := range []string{"orders", "payments"} {
		names := strings.NewReplacer(`:"owner"`, service+"_owner", `:"user"`, service+"_service", `:"database"`, service)
		for statement := range strings.SplitSeq(sql, ";") {
			statement = strings.TrimSpace(statement)
			if statement != "" && !strings.Contains(statement, "PASSWORD") {
				want = append(want, names.Replace(statement))
			}
		}
		logins[service+"_owner"], logins[service+"_service"] = service+"-postgres-owner", service+"-postgres"
	}
	var spec struct {
		Bootstrap struct {
			InitDB struct {
				SQL []string `yaml:"postInitSQL"`
			}
		}
		Managed struct {
			Roles []struct {
				Name     string
				Login    bool
				Password struct{ Name string } `yaml:"passwordSecret"`
			}
		}
	}
	if err := resources(t, "postgres.yaml", "Cluster")[0].Spec.Decode(&spec); err != nil {
		t.Fatal(err)
	}
	if got := spec.Bootstrap.InitDB.SQL; !slices.Equal(got, want) {
		t.Errorf("the example runs %q, provision.sql %q", got, want)
	}
	for _, role := range spec.Managed.Roles {
		if !role.Login || logins[role.Name] != role.Password.Name {
			t.Errorf("%s gets %v", role.Name, role)
		}
		delete(logins, role.Name)
	}
	if len(logins) > 0 {
		t.Errorf("nobody sets the passwords of %v", logins)
	}
}
