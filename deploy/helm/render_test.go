package helm

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

const (
	release   = "shop"
	namespace = "money"
)

// closed is the least that a chart needs which is not open.
const closed = `
auth: {issuers: [https://login.example], audiences: [altyn]}
tls: {gateway: gateway-tls, orders: orders-tls, payments: payments-tls, authority: authority}
postgres: {host: postgres}
kafka: {brokers: ["kafka-0:9093", "kafka-1:9094"]}
orders: {postgresSecret: orders-db, ownerSecret: orders-owner, kafkaSecret: orders-kafka}
payments: {postgresSecret: payments-db, ownerSecret: payments-owner, kafkaSecret: payments-kafka}
`

// variants are the sets of values that every test of the rendered chart goes through; each is laid over closed.
var variants = map[string]string{
	"closed": ``,
	"open": `
open: true
auth: {mode: none, issuers: [], audiences: []}
tls: {gateway: "", orders: "", payments: "", authority: ""}
postgres: {sslmode: disable, port: 6432}
kafka: {tls: false, auth: none}
gateway: {service: {type: LoadBalancer, annotations: {a: b}}, ingress: {enabled: true, hosts: [altyn.example]}}
reconcile: {enabled: true}
monitoring: {enabled: true}
payments: {worker: {apart: true, autoscaling: {enabled: true}}}
networkPolicy: {enabled: false}
`,
	"everything": `
image: {repository: registry.example/altyn, tag: 1.2.3, pullPolicy: Always, pullSecrets: [pull]}
auth: {jwksUrls: ["https://login.example:8443/keys"], tenantClaim: none}
tls: {gatewayClient: gateway-client-tls}
postgres: {authority: postgres-ca}
kafka: {authority: kafka-ca, auth: tls, partitions: 16}
otlp: {endpoint: "https://collector:4317", sample: 0.5}
currencies: "POINT,0\n"
settings: {LOG_LEVEL: debug, OTEL_EXPORTER_OTLP_PROTOCOL: grpc}
gateway:
  replicas: 3
  settings: {GATEWAY_MAX_BODY: 2MiB}
  ingress: {enabled: true, className: c, hosts: [a.example], tlsSecret: t}
orders: {worker: {apart: true, autoscaling: {enabled: true}}, settings: {POSTGRES_DATABASE: shop_orders}}
payments:
  worker: {apart: true, autoscaling: {enabled: true, prometheus: "http://p:9090"}, resources: {limits: {memory: 2Gi}}}
reconcile: {enabled: true, tokenSecret: operator}
monitoring: {enabled: true, labels: {release: p}, authorization: {credentials: {name: token, key: token}}}
networkPolicy: {clients: [{ipBlock: {cidr: 10.0.0.0/8}}], kafka: [{podSelector: {}}]}
podAnnotations: {a: "1"}
nodeSelector: {disk: ssd}
tolerations: [{key: dedicated, operator: Exists}]
priorityClassName: high
`,
	"scram-256": `
kafka: {auth: scram-sha-256}
orders: {worker: {apart: true}}
migrations: {enabled: false}
`,
	"plain": `
kafka: {auth: plain}
payments: {worker: {apart: true, autoscaling: {enabled: true, maxReplicas: 4, lag: 1000000}}}
`,
}

// set returns the values of a variant.
func set(t *testing.T, variant string) map[string]any {
	t.Helper()
	if variant == "example" {
		return read(t, file(t, "examples/values.yaml"))
	}
	return util.CoalesceTables(read(t, variants[variant]), read(t, closed))
}

// each runs a test for each variant and for the example of the documentation.
func each(t *testing.T, test func(t *testing.T, values map[string]any)) {
	for _, variant := range append(slices.Sorted(maps.Keys(variants)), "example") {
		t.Run(variant, func(t *testing.T) { test(t, set(t, variant)) })
	}
}

func file(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func read(t *testing.T, text string) (values map[string]any) {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(text), &values); err != nil {
		t.Fatal(err)
	}
	if values == nil {
		values = map[string]any{}
	}
	return values
}

// template is what helm template does. It returns the documents.
func template(values map[string]any) (documents []string, err error) {
	chart, err := loader.LoadDir("altyn")
	if err != nil {
		return nil, err
	}
	all, err := util.ToRenderValues(chart, values,
		common.ReleaseOptions{Name: release, Namespace: namespace, Revision: 1, IsInstall: true}, nil)
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(chart, all)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		for document := range strings.SplitSeq(files[name], "\n---\n") {
			var content map[string]any
			if err := yaml.UnmarshalStrict([]byte(document), &content); err != nil {
				return nil, err
			}
			if len(content) > 0 {
				documents = append(documents, document)
			}
		}
	}
	return documents, nil
}

// object is one of the API, with its metadata.
type object interface {
	runtime.Object
	metav1.Object
}

// custom are those of the kinds that have no Go types here; definitions_test.go checks them.
var custom = []string{"ScaledObject", "TriggerAuthentication"}

// render returns the objects of the chart, and the documents of the custom ones. An unknown kind or field, or a name
// that is there twice, is an error.
func render(t *testing.T, values map[string]any) (objects []object, others []string) {
	t.Helper()
	types := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, monitoringv1.AddToScheme} {
		if err := add(types); err != nil {
			t.Fatal(err)
		}
	}
	decoder := json.NewSerializerWithOptions(json.DefaultMetaFactory, types, types,
		json.SerializerOptions{Yaml: true, Strict: true})
	documents, err := template(values)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, document := range documents {
		var head metav1.PartialObjectMetadata
		if err := yaml.Unmarshal([]byte(document), &head); err != nil {
			t.Fatal(err)
		}
		name := head.Kind + " " + head.Name
		if seen[name] || !strings.HasPrefix(head.Name, release) || head.Labels["app.kubernetes.io/instance"] != release {
			t.Errorf("%s is there twice, or is not named and labelled by the release", name)
		}
		seen[name] = true
		if slices.Contains(custom, head.Kind) {
			others = append(others, document)
			continue
		}
		decoded, _, err := decoder.Decode([]byte(document), &schema.GroupVersionKind{}, nil)
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, document)
			continue
		}
		objects = append(objects, decoded.(object))
	}
	return objects, others
}

// of returns the objects of a type.
func of[T object](objects []object) (some []T) {
	for _, o := range objects {
		if typed, ok := o.(T); ok {
			some = append(some, typed)
		}
	}
	return some
}
