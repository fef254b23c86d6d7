package helm

import (
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/common/util"
)

const openWithClients = `{open: true, tls: {gateway: "", orders: "", payments: "", authority: "", gatewayClient: a}}`

// Unknown keys and wrong values are refused, with an error that names them.
func TestWrongValuesAreRefused(t *testing.T) {
	for values, want := range map[string]string{
		// by values.schema.json
		`relpicas: 2`:                                            "'relpicas' not allowed",
		`orders: {worker: {appart: true}}`:                       "'appart' not allowed",
		`image: {tag: a b}`:                                      "/image/tag",
		`image: {pullPolicy: Sometimes}`:                         "/image/pullPolicy",
		`open: "yes"`:                                            "/open",
		`auth: {mode: basic}`:                                    "/auth/mode",
		`auth: {issuers: [login.example]}`:                       "/auth/issuers/0",
		`tls: {orders: Orders_TLS}`:                              "/tls/orders",
		`postgres: {port: 0}`:                                    "/postgres/port",
		`postgres: {sslmode: prefer}`:                            "/postgres/sslmode",
		`kafka: {brokers: [kafka]}`:                              "/kafka/brokers/0",
		`kafka: {auth: gssapi}`:                                  "/kafka/auth",
		`kafka: {partitions: 3}`:                                 "/kafka/partitions",
		`otlp: {sample: 2}`:                                      "/otlp/sample",
		`settings: {log_level: debug}`:                           "log_level",
		`settings: {LIMIT_TENANT_RATE: 5}`:                       "/settings/LIMIT_TENANT_RATE",
		`orders: {settings: {POSTGRES_PASSWORD: secret}}`:        "POSTGRES_PASSWORD",
		`gateway: {replicas: 0}`:                                 "/gateway/replicas",
		`gateway: {resources: {limits: {memory: 512M}}}`:         "/gateway/resources/limits/memory",
		`gateway: {service: {type: ExternalName}}`:               "/gateway/service/type",
		`gateway: {ingress: {enabled: true}}`:                    "/gateway/ingress/hosts",
		`payments: {worker: {autoscaling: {maxReplicas: many}}}`: "/payments/worker/autoscaling/maxReplicas",
		`reconcile: {schedule: daily}`:                           "/reconcile/schedule",
		`networkPolicy: {kafka: [{cidr: 10.0.0.0/8}]}`:           "'cidr' not allowed",
		`tolerations: {a: b}`:                                    "/tolerations",

		// by the templates: each is right, but not together
		`auth: {mode: none}`:               "auth.mode must be jwt",
		`auth: {issuers: []}`:              "auth.mode jwt needs",
		`tls: {payments: ""}`:              "tls.payments must name a Secret",
		`postgres: {sslmode: require}`:     "must be verify-full",
		`postgres: {host: ""}`:             "postgres.host must be set",
		`kafka: {tls: false}`:              "kafka.tls must be true",
		`kafka: {brokers: []}`:             "kafka.brokers must be set",
		`orders: {postgresSecret: ""}`:     "orders.postgresSecret must name",
		`payments: {ownerSecret: ""}`:      "payments.ownerSecret must name",
		`payments: {kafkaSecret: ""}`:      "payments.kafkaSecret must name",
		`reconcile: {enabled: true}`:       "reconcile.tokenSecret must name",
		`{open: true, tls: {gateway: ""}}`: "tls needs all of",
		openWithClients:                    "tls.gatewayClient needs",
	} {
		_, err := template(util.CoalesceTables(read(t, values), read(t, closed)))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, not %q", values, err, want)
		}
	}
}

// No object of the schema takes keys that it does not know.
func TestSchemaKnowsAllKeys(t *testing.T) {
	var walk func(path string, schema any)
	walk = func(path string, schema any) {
		fields, ok := schema.(map[string]any)
		if !ok {
			return
		}
		if fields["type"] == "object" && fields["properties"] != nil && fields["additionalProperties"] != false {
			t.Errorf("%s takes any key", path)
		}
		for name, field := range fields {
			walk(path+"/"+name, field)
		}
	}
	walk("", read(t, file(t, "altyn/values.schema.json")))
}
