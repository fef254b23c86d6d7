package helm

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"
)

func TestLint(t *testing.T) {
	each(t, func(t *testing.T, values map[string]any) {
		for _, m := range lint.RunAll("altyn", values, namespace).Messages {
			if m.Severity > support.InfoSev {
				t.Error(m)
			}
		}
	})
}

// pod is a pod's template and what makes it.
type pod struct {
	owner object
	corev1.PodTemplateSpec
}

func (p pod) container() corev1.Container { return p.Spec.Containers[0] }

// env returns the variables of the pod's container.
func (p pod) env(t *testing.T) map[string]string {
	t.Helper()
	env := map[string]string{}
	for _, v := range p.container().Env {
		if _, twice := env[v.Name]; twice {
			t.Errorf("%s has %s twice", p.owner.GetName(), v.Name)
		}
		env[v.Name] = v.Value
	}
	return env
}

func pods(objects []object) (all []pod) {
	for _, d := range of[*appsv1.Deployment](objects) {
		all = append(all, pod{d, d.Spec.Template})
	}
	for _, j := range of[*batchv1.Job](objects) {
		all = append(all, pod{j, j.Spec.Template})
	}
	for _, c := range of[*batchv1.CronJob](objects) {
		all = append(all, pod{c, c.Spec.JobTemplate.Spec.Template})
	}
	return all
}

// Every pod satisfies the Pod Security Standard "restricted", and has what that does not ask for.
func TestPodsAreRestricted(t *testing.T) {
	checks, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	each(t, func(t *testing.T, values map[string]any) {
		objects, _ := render(t, values)
		for _, p := range pods(objects) {
			name := p.owner.GetName()
			restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
			for _, result := range checks.EvaluatePod(restricted, &p.ObjectMeta, &p.Spec) {
				if !result.Allowed {
					t.Errorf("%s: %s: %s", name, result.ForbiddenReason, result.ForbiddenDetail)
				}
			}
			c, s := p.container(), p.Spec
			if !*c.SecurityContext.ReadOnlyRootFilesystem || *s.SecurityContext.RunAsUser != 65532 ||
				*s.AutomountServiceAccountToken {
				t.Errorf("%s can write, is another user, or has a token of the cluster", name)
			}
			mounts, volumes := len(c.VolumeMounts), len(s.Volumes)
			if len(s.Containers) != 1 || mounts != volumes || mounts > 1 ||
				mounts == 1 && c.VolumeMounts[0].Name != s.Volumes[0].Name {
				t.Errorf("%s mounts %v of %v", name, c.VolumeMounts, s.Volumes)
			}
		}
	})
}

// What is killed has had its pause, the 10 s of a drain, and half a minute for the batch in hand. The heap fits the
// limit.
func TestPodsEndInOrderAndFitTheirMemory(t *testing.T) {
	const drain, batch = 10, 30
	each(t, func(t *testing.T, values map[string]any) {
		objects, _ := render(t, values)
		for _, d := range of[*appsv1.Deployment](objects) {
			s := d.Spec.Template.Spec
			pause := s.Containers[0].Lifecycle.PreStop.Sleep.Seconds
			if pause < 3 || *s.TerminationGracePeriodSeconds < pause+drain+batch {
				t.Errorf("%s pauses for %d s and ends after %d s", d.Name, pause, *s.TerminationGracePeriodSeconds)
			}
		}
		for _, p := range pods(objects) {
			heap, limit := p.env(t)["GOMEMLIMIT"], p.container().Resources.Limits[corev1.ResourceMemory]
			if _, job := p.owner.(*batchv1.CronJob); job {
				continue
			}
			if heap == "" || limit.IsZero() {
				t.Errorf("%s has the limits %q and %s", p.owner.GetName(), heap, limit.String())
				continue
			}
			bytes := quantity(t, strings.TrimSuffix(heap, "B"))
			if part := float64(bytes) / float64(limit.Value()); part < 0.6 || part > 0.8 {
				t.Errorf("%s has GOMEMLIMIT=%s of %s", p.owner.GetName(), heap, limit.String())
			}
		}
	})
}

// Everything that selects pods finds some, each Deployment has a budget and each pod a policy.
func TestSelectorsMeetPods(t *testing.T) {
	each(t, func(t *testing.T, values map[string]any) {
		objects, _ := render(t, values)
		all := pods(objects)
		matching := func(what object, selector *metav1.LabelSelector) (some []pod) {
			t.Helper()
			s, err := metav1.LabelSelectorAsSelector(selector)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range all {
				if s.Matches(labels.Set(p.Labels)) {
					some = append(some, p)
				}
			}
			if len(some) == 0 {
				t.Errorf("%T %s selects no pods: %v", what, what.GetName(), selector)
			}
			return some
		}
		owners := func(some []pod) (names []string) {
			for _, p := range some {
				names = append(names, p.owner.GetName())
			}
			return names
		}
		for _, d := range of[*appsv1.Deployment](objects) {
			if some := owners(matching(d, d.Spec.Selector)); !slices.Equal(some, []string{d.Name}) {
				t.Errorf("%s selects the pods of %v", d.Name, some)
			}
			for _, c := range d.Spec.Template.Spec.TopologySpreadConstraints {
				if !slices.Equal(owners(matching(d, c.LabelSelector)), []string{d.Name}) {
					t.Errorf("%s is spread by %v", d.Name, c.LabelSelector)
				}
			}
		}
		var kept []string
		for _, b := range of[*policyv1.PodDisruptionBudget](objects) {
			kept = append(kept, owners(matching(b, b.Spec.Selector))...)
		}
		for _, d := range of[*appsv1.Deployment](objects) {
			if !slices.Contains(kept, d.Name) {
				t.Errorf("%s has no budget", d.Name)
			}
		}
		for _, s := range of[*corev1.Service](objects) {
			for _, p := range matching(s, &metav1.LabelSelector{MatchLabels: s.Spec.Selector}) {
				for _, port := range s.Spec.Ports {
					i := slices.IndexFunc(p.container().Ports,
						func(c corev1.ContainerPort) bool { return c.Name == port.TargetPort.StrVal })
					if i < 0 || p.container().Ports[i].ContainerPort != port.Port {
						t.Errorf("service %s leads to port %d, %s has %v", s.Name, port.Port, p.owner.GetName(), p.container().Ports)
					}
				}
				if role := p.env(t)["ROLE"]; role == "worker" && s.Spec.Ports[0].Name == "http" {
					t.Errorf("service %s leads to the worker %s", s.Name, p.owner.GetName())
				}
			}
		}
		for _, m := range of[*monitoringv1.ServiceMonitor](objects) {
			s, err := metav1.LabelSelectorAsSelector(&m.Spec.Selector)
			if err != nil {
				t.Fatal(err)
			}
			var jobs []string
			for _, service := range of[*corev1.Service](objects) {
				if s.Matches(labels.Set(service.Labels)) && service.Spec.Ports[0].Name == m.Spec.Endpoints[0].Port {
					jobs = append(jobs, service.Labels[m.Spec.JobLabel])
				}
			}
			if len(jobs) != 1 || m.Name != release+"-"+jobs[0] {
				t.Errorf("monitor %s is of the jobs %v", m.Name, jobs)
			}
		}
		for _, i := range of[*networkingv1.Ingress](objects) {
			for _, rule := range i.Spec.Rules {
				to := rule.HTTP.Paths[0].Backend.Service
				if !slices.ContainsFunc(of[*corev1.Service](objects), func(s *corev1.Service) bool {
					return s.Name == to.Name && s.Spec.Ports[0].Name == to.Port.Name
				}) {
					t.Errorf("ingress %s leads to %v", i.Name, to)
				}
			}
		}
		for _, p := range of[*networkingv1.NetworkPolicy](objects) {
			matching(p, &p.Spec.PodSelector)
		}
	})
}

// The alerts are those of deploy/observability, which make generate copies into the chart.
func TestAlertsAreThoseOfTheRepository(t *testing.T) {
	var want monitoringv1.PrometheusRuleSpec
	if err := yaml.UnmarshalStrict([]byte(file(t, "../observability/alerts.yml")), &want); err != nil {
		t.Fatal(err)
	}
	objects, _ := render(t, set(t, "example"))
	rules := of[*monitoringv1.PrometheusRule](objects)
	if len(rules) != 1 || len(rules[0].Spec.Groups) != len(want.Groups)+1 {
		t.Fatalf("there are %v", rules)
	}
	got, err := yaml.Marshal(rules[0].Spec.Groups[:len(want.Groups)])
	if err != nil {
		t.Fatal(err)
	}
	if text, _ := yaml.Marshal(want.Groups); string(text) != string(got) {
		t.Error("the chart's alerts are not those of deploy/observability/alerts.yml: make generate")
	}
}

// README.md lists the values with their defaults.
func TestValuesAreDocumented(t *testing.T) {
	want := map[string]string{}
	var walk func(prefix string, value any)
	walk = func(prefix string, value any) {
		fields, ok := value.(map[string]any)
		if _, resources := strings.CutSuffix(prefix, "resources."); !ok || len(fields) == 0 || resources {
			text, err := yaml.Marshal(value)
			if err != nil {
				t.Fatal(err)
			}
			want[strings.TrimSuffix(prefix, ".")] = strings.Join(strings.Fields(string(text)), " ")
			return
		}
		for name, field := range fields {
			walk(prefix+name+".", field)
		}
	}
	walk("", read(t, file(t, "altyn/values.yaml")))
	got := map[string]string{}
	rows := regexp.MustCompile("(?m)^\\| `([A-Za-z0-9.]+)` \\| (?:`(.*?)`)? ?\\| .+ \\|$")
	for _, row := range rows.FindAllStringSubmatch(file(t, "altyn/README.md"), -1) {
		got[row[1]] = row[2]
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if strings.HasPrefix(name, "payments.") && want[name] == want[strings.Replace(name, "payments", "orders", 1)] {
			continue // its row is that of orders
		}
		if value, ok := got[name]; !ok || value != want[name] && !strings.Contains(name, "resources") {
			t.Errorf("README.md has for %s %q, values.yaml %q", name, value, want[name])
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("README.md has %s, which is no value", name)
		}
	}
}
