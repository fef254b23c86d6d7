package stack

import (
	"encoding/json"
	"testing"
)

func TestPrometheusScrapesAllInstances(t *testing.T) {
	services := Instances(1, 2, 1)
	for i := range services {
		services[i].AdminAddr = loopbackAddr(uint16(9000 + i))
	}
	services = append(services, Service{Name: Issuer, Program: Issuer, AdminAddr: ":1"})
	s := &Stack{opts: Options{Services: services, Prometheus: Prometheus{Rules: "/alerts.yml"}}}
	got, err := json.Marshal(s.prometheusConfig()["scrape_configs"])
	if err != nil {
		t.Fatal(err)
	}
	target := func(addr, name string) string {
		return `{"labels":{"instance":"` + name + `"},"targets":["127.0.0.1:` + addr + `"]}`
	}
	want := `[{"job_name":"gateway","static_configs":[` + target("9000", "gateway") + `]},` +
		`{"job_name":"orders","static_configs":[` + target("9001", "orders") + `]},` +
		`{"job_name":"payments","static_configs":[` + target("9002", "payments") + `,` + target("9003", "payments-2") + `,` +
		target("9004", "payments-worker") + `]}]`
	if string(got) != want {
		t.Errorf("it scrapes\n%s, not\n%s", got, want)
	}
}
