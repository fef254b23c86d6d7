package helm

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/yaml"
)

// crds are the files with definitions of resources, by module and kind. crds/go.mod pins them.
var crds = map[string]map[string]string{
	"github.com/kedacore/keda/v2": {
		"ScaledObject":          "keda.sh_scaledobjects.yaml",
		"TriggerAuthentication": "keda.sh_triggerauthentications.yaml",
	},
	"github.com/cloudnative-pg/cloudnative-pg": {
		"Cluster":         "postgresql.cnpg.io_clusters.yaml",
		"ScheduledBackup": "postgresql.cnpg.io_scheduledbackups.yaml",
	},
}

// definitions returns the schemas by apiVersion/kind.
func definitions(t *testing.T) map[string]*jsonschema.Schema {
	t.Helper()
	schemas := map[string]*jsonschema.Schema{}
	for module, kinds := range crds {
		download := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", module)
		download.Dir, download.Env = "crds", append(os.Environ(), "GOWORK=off")
		output, err := download.Output()
		if err != nil {
			t.Fatalf("%v: %s", err, output)
		}
		var of struct{ Dir string }
		if err := json.Unmarshal(output, &of); err != nil {
			t.Fatal(err)
		}
		for kind, name := range kinds {
			define(t, schemas, kind, filepath.Join(of.Dir, "config/crd/bases", name))
		}
	}
	return schemas
}

func define(t *testing.T, schemas map[string]*jsonschema.Schema, kind, path string) {
	t.Helper()
	var definition struct {
		Spec struct {
			Group    string
			Versions []struct {
				Name   string
				Schema struct{ OpenAPIV3Schema map[string]any }
			}
		}
	}
	if err := yaml.Unmarshal([]byte(file(t, path)), &definition); err != nil {
		t.Fatal(err)
	}
	for _, version := range definition.Spec.Versions {
		name := definition.Spec.Group + "/" + version.Name + "/" + kind
		compiler := jsonschema.NewCompiler()
		if err := compiler.AddResource("mem:///"+name, strict(version.Schema.OpenAPIV3Schema)); err != nil {
			t.Fatal(err)
		}
		var err error
		if schemas[name], err = compiler.Compile("mem:///" + name); err != nil {
			t.Fatal(err)
		}
	}
}

// strict makes unknown fields errors, as they are for kubectl.
func strict(schema any) any {
	switch s := schema.(type) {
	case map[string]any:
		_, fields := s["properties"].(map[string]any)
		if fields && s["x-kubernetes-preserve-unknown-fields"] != true {
			s["additionalProperties"] = false
		}
		for _, inner := range s {
			strict(inner)
		}
	case []any:
		for _, inner := range s {
			strict(inner)
		}
	}
	return schema
}

// check holds a document against its definition.
func check(t *testing.T, schemas map[string]*jsonschema.Schema, document string) {
	t.Helper()
	content := read(t, document)
	name := content["apiVersion"].(string) + "/" + content["kind"].(string)
	schema := schemas[name]
	if schema == nil {
		t.Errorf("%s has no definition", name)
		return
	}
	if err := schema.Validate(content); err != nil {
		t.Errorf("%s: %v\n%s", name, err, document)
	}
}

// Each scaled Deployment is there, has no number of its own, and is scaled by all that its consumer group reads.
func TestScaledObjectsAreAsDefined(t *testing.T) {
	schemas, found := definitions(t), 0
	each(t, func(t *testing.T, values map[string]any) {
		objects, others := render(t, values)
		for _, document := range others {
			check(t, schemas, document)
			var scaled struct {
				Spec struct {
					ScaleTargetRef struct{ Name string }
					Triggers       []struct{ Metadata map[string]string }
				}
			}
			if err := yaml.Unmarshal([]byte(document), &scaled); err != nil {
				t.Fatal(err)
			}
			target := scaled.Spec.ScaleTargetRef.Name
			if target == "" {
				continue // its TriggerAuthentication
			}
			found++
			i := slices.IndexFunc(of[*appsv1.Deployment](objects), func(d *appsv1.Deployment) bool { return d.Name == target })
			if i < 0 || of[*appsv1.Deployment](objects)[i].Spec.Replicas != nil {
				t.Errorf("%s is scaled, and is not there or has a number of replicas", target)
			}
			var topics []string
			for _, trigger := range scaled.Spec.Triggers {
				if topic := trigger.Metadata["topic"]; topic != "" {
					topics = append(topics, trigger.Metadata["consumerGroup"]+" "+topic)
				}
			}
			service := strings.TrimSuffix(strings.TrimPrefix(target, release+"-"), "-worker")
			if want := readTopics(t, service); !slices.Equal(topics, want) {
				t.Errorf("%s is scaled by %v, not %v", target, topics, want)
			}
		}
	})
	if found == 0 {
		t.Error("there are none")
	}
}

// readTopics are those that a service reads, each behind its consumer group, by the table of docs/broker-rights.md.
func readTopics(t *testing.T, service string) (topics []string) {
	t.Helper()
	row := regexp.MustCompile("(?m)^\\| `" + service + "` \\| topic `(.+)` \\| Read, ")
	for _, match := range row.FindAllStringSubmatch(file(t, "../../docs/broker-rights.md"), -1) {
		topics = append(topics, service+" "+match[1])
	}
	return topics
}

// The barman-cloud plugin's ObjectStore is not checked: its module needs a newer Go than this one.
func TestPostgresExampleIsAsDefined(t *testing.T) {
	schemas := definitions(t)
	for document := range strings.SplitSeq(file(t, "examples/postgres.yaml"), "\n---\n") {
		if read(t, document)["kind"] != "ObjectStore" {
			check(t, schemas, document)
		}
	}
}
