package stack

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/altyn-pay/altyn/platform/identity"
)

// PrometheusName is the name of that part.
const PrometheusName = "prometheus"

// Prometheus is the Prometheus that watches the stack.
type Prometheus struct {
	// Program is its path. Without it none is run.
	Program string
	// Addr on which it listens; empty means 127.0.0.1 and a free port.
	Addr string
	// Rules is the path of the file with its rules.
	Rules string
}

// addPrometheus adds the part, unless the stack has none.
func (s *Stack) addPrometheus() {
	opts := s.opts.Prometheus
	if opts.Program == "" {
		return
	}
	s.add(PrometheusName, "tcp://"+dialable(opts.Addr), stopGateway, func(context.Context) (running, error) {
		config, err := json.Marshal(s.prometheusConfig()) // which is YAML too
		if err != nil {
			return nil, err
		}
		file := filepath.Join(s.dir, "prometheus.yml")
		if err := os.WriteFile(file, config, 0o644); err != nil {
			return nil, err
		}
		return startProcess(s.LogFile(PrometheusName), opts.Program, os.Environ(), "--config.file="+file,
			"--storage.tsdb.path="+s.dataDir(PrometheusName), "--web.listen-address="+opts.Addr)
	})
}

// prometheusConfig says what deploy/observability/prometheus.yml says of the Compose form.
func (s *Stack) prometheusConfig() map[string]any {
	var jobs []any
	issuer := s.issuer()
	for _, program := range []string{Gateway, Orders, Payments} {
		var targets []any
		job := map[string]any{"job_name": program}
		for _, service := range s.opts.Services {
			if service.Program != program {
				continue
			}
			targets = append(targets, map[string]any{
				"targets": []string{dialable(service.AdminAddr)}, "labels": map[string]string{"instance": service.Name},
			})
			if scheme(service) == "https://" { // on this machine, whatever name the certificate has
				job["scheme"], job["tls_config"] = "https", map[string]bool{"insecure_skip_verify": true}
			}
		}
		if issuer != "" { // the operators' planes ask for a token
			job["oauth2"] = map[string]any{"client_id": PrometheusName + "@operators", "client_secret": "any",
				"scopes": []identity.Scope{identity.Operator}, "token_url": issuer + "/oauth/token"}
		}
		job["static_configs"] = targets
		jobs = append(jobs, job)
	}
	return map[string]any{
		"global":     map[string]string{"scrape_interval": "5s", "evaluation_interval": "5s"},
		"rule_files": []string{s.opts.Prometheus.Rules}, "scrape_configs": jobs,
	}
}
