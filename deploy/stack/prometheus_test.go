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

// The operators' planes want a token where there are any.
func TestPrometheusShowsATokenOfTheIssuer(t *testing.T) {
	services := append(Instances(1, 1, 0), Service{Name: Issuer, Program: Issuer, Addr: "127.0.0.1:9", AdminAddr: ":1"})
	s := &Stack{opts: Options{Services: services}}
	jobs, _ := s.prometheusConfig()["scrape_configs"].([]any)
	for _, job := range jobs {
		got, err := json.Marshal(job.(map[string]any)["oauth2"])
		if want := `{"client_id":"prometheus@operators","client_secret":"any","scopes":["operator"],` +
			`"token_url":"http://127.0.0.1:9/oauth/token"}`; err != nil || string(got) != want {
			t.Errorf("%v: it shows %s, not %s", err, got, want)
		}
	}
	if len(jobs) != 3 { // the issuer has no metrics that anything asks for
		t.Errorf("it scrapes %v", jobs)
	}
}
