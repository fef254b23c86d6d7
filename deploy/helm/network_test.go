package helm

import (
	"maps"
	"slices"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Each pod may be reached and may reach others on just these ports.
func TestNetworkPoliciesAllowWhatIsNeeded(t *testing.T) {
	want := map[string]struct{ in, out []int }{
		"shop-gateway":          {[]int{8000, 8009}, []int{53, 443, 4317, 8080, 8081, 8443}},
		"shop-orders":           {[]int{8080, 8180}, []int{53, 443, 4317, 5432, 8443}},
		"shop-orders-worker":    {[]int{8180}, []int{53, 443, 4317, 5432, 8443, 9093, 9094}},
		"shop-payments":         {[]int{8081, 8181}, []int{53, 443, 4317, 5432, 8443}},
		"shop-payments-worker":  {[]int{8181}, []int{53, 443, 4317, 5432, 8443, 9093, 9094}},
		"shop-orders-migrate":   {nil, []int{53, 5432}},
		"shop-payments-migrate": {nil, []int{53, 5432}},
		"shop-reconcile":        {nil, []int{53, 8180, 8181}},
	}
	objects, _ := render(t, set(t, "everything"))
	all := pods(objects)
	if len(all) != len(want) {
		t.Errorf("there are %d kinds of pods", len(all))
	}
	for _, p := range all {
		in, out := map[int]bool{}, map[int]bool{}
		isolated := 0
		for _, policy := range of[*networkingv1.NetworkPolicy](objects) {
			if !selects(t, policy.Spec.PodSelector, p) {
				continue
			}
			if len(policy.Spec.PolicyTypes) == 2 {
				isolated++
			}
			for _, rule := range policy.Spec.Ingress {
				add(in, rule.Ports)
			}
			for _, rule := range policy.Spec.Egress {
				add(out, rule.Ports)
			}
		}
		name := p.owner.GetName()
		if got := slices.Sorted(maps.Keys(in)); !slices.Equal(got, want[name].in) {
			t.Errorf("%s may be reached on %v", name, got)
		}
		if got := slices.Sorted(maps.Keys(out)); !slices.Equal(got, want[name].out) {
			t.Errorf("%s may reach %v", name, got)
		}
		if isolated == 0 {
			t.Errorf("nothing denies anything to %s", name)
		}
	}
}

// The services take requests of the gateway alone, and it sends them to those that serve HTTP alone.
func TestServicesAreReachedByTheGatewayAlone(t *testing.T) {
	objects, _ := render(t, set(t, "everything"))
	among := func(peers []networkingv1.NetworkPolicyPeer) (names []string) {
		for _, peer := range peers {
			for _, p := range pods(objects) {
				if selects(t, *peer.PodSelector, p) {
					names = append(names, p.owner.GetName())
				}
			}
		}
		return names
	}
	for _, policy := range of[*networkingv1.NetworkPolicy](objects) {
		switch policy.Name {
		case "shop-orders", "shop-payments":
			if from := among(policy.Spec.Ingress[0].From); !slices.Equal(from, []string{"shop-gateway"}) {
				t.Errorf("%s is reached by %v", policy.Name, from)
			}
		case "shop-gateway":
			to := slices.Concat(among(policy.Spec.Egress[0].To), among(policy.Spec.Egress[1].To))
			if !slices.Equal(to, []string{"shop-orders", "shop-payments"}) {
				t.Errorf("%s reaches %v", policy.Name, to)
			}
		}
	}
}

func selects(t *testing.T, selector metav1.LabelSelector, p pod) bool {
	t.Helper()
	s, err := metav1.LabelSelectorAsSelector(&selector)
	if err != nil {
		t.Fatal(err)
	}
	return s.Matches(labels.Set(p.Labels))
}

func add(to map[int]bool, ports []networkingv1.NetworkPolicyPort) {
	if len(ports) == 0 {
		to[0] = true // all of them
	}
	for _, port := range ports {
		to[port.Port.IntValue()] = true
	}
}
