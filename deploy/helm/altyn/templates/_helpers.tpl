{{- /* What a wrong combination of values would make a pod that nobody can reach, or that refuses to start. */ -}}
{{- define "altyn.check" -}}
{{- if not .Values.open }}
  {{- if ne .Values.auth.mode "jwt" }}{{ fail "auth.mode must be jwt, unless open is true: nobody would have to show who they are" }}{{ end }}
  {{- range list "gateway" "orders" "payments" "authority" }}
    {{- if not (index $.Values.tls .) }}{{ fail (printf "tls.%s must name a Secret, unless open is true: without TLS a pod listens on loopback alone" .) }}{{ end }}
  {{- end }}
  {{- if ne .Values.postgres.sslmode "verify-full" }}{{ fail "postgres.sslmode must be verify-full, unless open is true" }}{{ end }}
  {{- if not .Values.kafka.tls }}{{ fail "kafka.tls must be true, unless open is true" }}{{ end }}
{{- end }}
{{- if and (eq .Values.auth.mode "jwt") (or (not .Values.auth.issuers) (not .Values.auth.audiences)) }}
  {{- fail "auth.mode jwt needs auth.issuers and auth.audiences" }}
{{- end }}
{{- $tls := 0 }}
{{- range list "gateway" "orders" "payments" "authority" }}{{ if index $.Values.tls . }}{{ $tls = add1 $tls }}{{ end }}{{ end }}
{{- if not (has (int $tls) (list 0 4)) }}{{ fail "tls needs all of gateway, orders, payments and authority, or none" }}{{ end }}
{{- if and .Values.tls.gatewayClient (not $tls) }}{{ fail "tls.gatewayClient needs tls.gateway, tls.orders, tls.payments and tls.authority" }}{{ end }}
{{- if not .Values.postgres.host }}{{ fail "postgres.host must be set" }}{{ end }}
{{- if not .Values.kafka.brokers }}{{ fail "kafka.brokers must be set" }}{{ end }}
{{- range $service := list "orders" "payments" }}
  {{- $v := index $.Values $service }}
  {{- if not $v.postgresSecret }}{{ fail (printf "%s.postgresSecret must name a Secret" $service) }}{{ end }}
  {{- if and $.Values.migrations.enabled (not $v.ownerSecret) }}{{ fail (printf "%s.ownerSecret must name a Secret, unless migrations.enabled is false" $service) }}{{ end }}
  {{- if and (ne $.Values.kafka.auth "none") (not $v.kafkaSecret) }}{{ fail (printf "%s.kafkaSecret must name a Secret, unless kafka.auth is none" $service) }}{{ end }}
{{- end }}
{{- if and .Values.reconcile.enabled (eq .Values.auth.mode "jwt") (not .Values.reconcile.tokenSecret) }}
  {{- fail "reconcile.tokenSecret must name a Secret: with auth.mode jwt comparing needs an operator's token" }}
{{- end }}
{{- end }}

{{- define "altyn.tls" }}{{ if .Values.tls.gateway }}true{{ end }}{{ end }}
{{- define "altyn.scheme" }}{{ if .Values.tls.gateway }}https{{ else }}http{{ end }}{{ end }}

{{- /* The ports of each service: its API and its operators' plane, as in docs/configuration.md. */ -}}
{{- define "altyn.ports" -}}
gateway: {http: 8000, plane: 8009}
orders: {http: 8080, plane: 8180}
payments: {http: 8081, plane: 8181}
{{- end }}

{{- /* The port of a URL, or of host:port. */ -}}
{{- define "altyn.port" -}}
{{- $host := . }}{{ $port := "443" }}
{{- if contains "://" . }}{{ $url := urlParse . }}{{ $host = $url.host }}{{ if eq $url.scheme "http" }}{{ $port = "80" }}{{ end }}{{ end }}
{{- regexFind ":[0-9]+$" $host | trimPrefix ":" | default $port }}
{{- end }}

{{- /* Labels by which pods are found: a pod's component is its Deployment or Job; altyn/service is what answers on its ports. */ -}}
{{- define "altyn.selector" -}}
app.kubernetes.io/name: altyn
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "altyn.labels" -}}
{{ include "altyn.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* The Deployments. One that has its worker apart serves HTTP alone. */ -}}
{{- define "altyn.deployments" -}}
- {name: gateway, service: gateway}
{{- range $service := list "orders" "payments" }}
{{- $apart := (index $.Values $service).worker.apart }}
- {name: {{ $service }}, service: {{ $service }}, role: {{ ternary "api" "all" $apart }}}
{{- if $apart }}
- {name: {{ $service }}-worker, service: {{ $service }}, role: worker}
{{- end }}
{{- end }}
{{- end }}

{{- /* Variables of the garbage collector: 70 % of the limit of memory is for the heap. */ -}}
{{- define "altyn.garbage" -}}
{{- $limit := .limits.memory }}
{{- $mebibytes := trimSuffix "Mi" $limit | trimSuffix "Gi" | int }}
{{- if hasSuffix "Gi" $limit }}{{ $mebibytes = mul $mebibytes 1024 }}{{ end -}}
GOGC: "250"
GOMEMLIMIT: {{ div (mul $mebibytes 7) 10 }}MiB
{{- end }}

{{- /* How a process of a service reaches its database. Takes root and service. */ -}}
{{- define "altyn.postgres" -}}
POSTGRES_HOST: {{ .root.Values.postgres.host | quote }}
POSTGRES_PORT: {{ .root.Values.postgres.port | quote }}
POSTGRES_SSLMODE: {{ .root.Values.postgres.sslmode }}
{{- end }}

{{- /* The variables of a Deployment, but for those that name files. Takes root, service and role. */ -}}
{{- define "altyn.env" -}}
{{- $v := .root.Values }}{{ $own := index $v .service }}
{{- $ports := index (include "altyn.ports" .root | fromYaml) .service }}
{{ .service | upper }}_ADDR: :{{ $ports.http }}
{{ .service | upper }}_ADMIN_ADDR: 0.0.0.0:{{ $ports.plane }}
{{- if $v.open }}
ALTYN_OPEN: "true"
{{- end }}
AUTH: {{ $v.auth.mode }}
{{- if eq $v.auth.mode "jwt" }}
AUTH_ISSUER: {{ join "," $v.auth.issuers | quote }}
AUTH_AUDIENCE: {{ join "," $v.auth.audiences | quote }}
{{- with $v.auth.jwksUrls }}
AUTH_JWKS_URL: {{ join "," . | quote }}
{{- end }}
AUTH_TENANT_CLAIM: {{ $v.auth.tenantClaim | quote }}
{{- else }}
{{- $name := printf "%s-%s" .root.Release.Name .service }}
ALLOWED_HOSTS: {{ concat (list $name (printf "%s-plane" $name) (printf "%s.%s" $name .root.Release.Namespace) (printf "%s.%s.svc" $name .root.Release.Namespace)) (eq .service "gateway" | ternary $v.gateway.ingress.hosts list) | join "," | quote }}
{{- end }}
{{- with $v.otlp.endpoint }}
OTEL_EXPORTER_OTLP_ENDPOINT: {{ . | quote }}
OTEL_TRACES_SAMPLER_ARG: {{ $v.otlp.sample | quote }}
{{- end }}
{{- if eq .service "gateway" }}
{{- $ports := include "altyn.ports" .root | fromYaml }}
ORDERS_URL: {{ include "altyn.scheme" .root }}://{{ .root.Release.Name }}-orders:{{ $ports.orders.http }}
PAYMENTS_URL: {{ include "altyn.scheme" .root }}://{{ .root.Release.Name }}-payments:{{ $ports.payments.http }}
{{- else }}
ROLE: {{ .role }}
{{ include "altyn.postgres" . }}
KAFKA_BROKERS: {{ join "," $v.kafka.brokers | quote }}
KAFKA_TLS: {{ $v.kafka.tls | quote }}
KAFKA_PARTITIONS: {{ $v.kafka.partitions | quote }}
KAFKA_REPLICATION_FACTOR: {{ $v.kafka.replicationFactor | quote }}
{{- if not (has $v.kafka.auth (list "none" "tls")) }}
KAFKA_SASL_MECHANISM: {{ $v.kafka.auth }}
KAFKA_SASL_USER: {{ $own.kafkaUser | quote }}
{{- end }}
{{- end }}
{{ include "altyn.garbage" .resources }}
{{- end }}

{{- /* The files of a Deployment: the key of a Secret, where it is mounted, and the variable that names it. */ -}}
{{- define "altyn.files" -}}
{{- $v := .root.Values }}{{ $own := index $v .service }}
{{- if $v.tls.gateway }}
- {secret: {{ index $v.tls .service }}, key: tls.crt, path: tls/tls.crt, env: TLS_CERT_FILE}
- {secret: {{ index $v.tls .service }}, key: tls.key, path: tls/tls.key, env: TLS_KEY_FILE}
{{- if eq .service "gateway" }}
- {secret: {{ $v.tls.authority }}, key: ca.crt, path: upstream/ca.crt, env: GATEWAY_UPSTREAM_CA_FILE}
{{- end }}
{{- end }}
{{- if $v.tls.gatewayClient }}
{{- if eq .service "gateway" }}
- {secret: {{ $v.tls.gatewayClient }}, key: tls.crt, path: upstream/tls.crt, env: GATEWAY_UPSTREAM_CERT_FILE}
- {secret: {{ $v.tls.gatewayClient }}, key: tls.key, path: upstream/tls.key, env: GATEWAY_UPSTREAM_KEY_FILE}
{{- else }}
- {secret: {{ $v.tls.gatewayClient }}, key: ca.crt, path: tls/clients.crt, env: TLS_CLIENT_CA_FILE}
{{- end }}
{{- end }}
{{- if ne .service "gateway" }}
- {secret: {{ $own.postgresSecret }}, key: password, path: postgres/password, env: POSTGRES_PASSWORD_FILE}
{{- with $v.postgres.authority }}
- {secret: {{ . }}, key: ca.crt, path: postgres/ca.crt, env: POSTGRES_SSLROOTCERT}
{{- end }}
{{- with $v.kafka.authority }}
- {secret: {{ . }}, key: ca.crt, path: kafka/ca.crt, env: KAFKA_TLS_CA_FILE}
{{- end }}
{{- if eq $v.kafka.auth "tls" }}
- {secret: {{ $own.kafkaSecret }}, key: user.crt, path: kafka/user.crt, env: KAFKA_TLS_CERT_FILE}
- {secret: {{ $own.kafkaSecret }}, key: user.key, path: kafka/user.key, env: KAFKA_TLS_KEY_FILE}
{{- else if ne $v.kafka.auth "none" }}
- {secret: {{ $own.kafkaSecret }}, key: password, path: kafka/password, env: KAFKA_SASL_PASSWORD_FILE}
{{- end }}
{{- end }}
{{- end }}

{{- /* The entries of a container's env: variables, and those that name files. Takes env (a map) and files (a list). */ -}}
{{- define "altyn.variables" -}}
{{- $env := .env }}
{{- range .files }}{{ $_ := set $env .env (printf "/etc/altyn/%s" .path) }}{{ end }}
{{- range $name, $value := $env }}
- {name: {{ $name }}, value: {{ $value | toString | quote }}}
{{- end }}
{{- end }}

{{- /* The mount of the files, and the volume that has them. */ -}}
{{- define "altyn.mount" -}}
- {name: files, mountPath: /etc/altyn, readOnly: true}
{{- end }}
{{- define "altyn.volume" -}}
- name: files
  projected:
    defaultMode: 0440
    sources:
      {{- range . }}
      - {{ if .secret }}secret{{ else }}configMap{{ end }}: {name: {{ .secret | default .configMap }}, items: [{key: {{ .key }}, path: {{ .path }}}]}
      {{- end }}
{{- end }}

{{- /* What every pod has. It satisfies the Pod Security Standard "restricted". */ -}}
{{- define "altyn.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{ toJson . }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{ toJson . }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{- /* What every container has. Takes root and image. */ -}}
{{- define "altyn.container" -}}
image: {{ .root.Values.image.repository }}/{{ .image }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}
