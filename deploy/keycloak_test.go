package deploy

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/identity/bearer"
	"github.com/altyn-pay/altyn/platform/swagger"
)

// realm is what Altyn needs of Keycloak's realm.
type realm struct {
	Realm        string
	ClientScopes []struct {
		Name            string
		ProtocolMappers []struct {
			ProtocolMapper string
			Config         map[string]string
		}
	}
	Clients []struct {
		ClientID                                  string
		PublicClient, StandardFlowEnabled         bool
		RedirectURIs, WebOrigins                  []string
		Attributes                                map[string]string
		DefaultClientScopes, OptionalClientScopes []string
	}
	Users []struct {
		Username   string
		Attributes map[string][]string
	}
}

// No image can be pulled where these tests run, so the realm is compared with what the code wants of a token.
func TestRealmOfKeycloak(t *testing.T) {
	text, err := os.ReadFile("keycloak/altyn-realm.json")
	if err != nil {
		t.Fatal(err)
	}
	var r realm
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	var want, scopes []string
	for _, scope := range identity.All() {
		want = append(want, string(scope))
		if scope.HasOwn() {
			want = append(want, string(scope)+".own")
		}
	}
	claims := map[string]bool{}
	for _, scope := range r.ClientScopes {
		for _, mapper := range scope.ProtocolMappers {
			claims[mapper.ProtocolMapper+" "+mapper.Config["claim.name"]+mapper.Config["included.custom.audience"]] =
				mapper.Config["access.token.claim"] == "true"
		}
		if scope.Name != "altyn" {
			scopes = append(scopes, scope.Name)
		}
	}
	slices.Sort(want)
	slices.Sort(scopes)
	if !slices.Equal(scopes, want) {
		t.Errorf("the realm has the scopes %v, Altyn %v", scopes, want)
	}
	for _, claim := range []string{"oidc-audience-mapper " + load.Audience, "oidc-sub-mapper ",
		"oidc-usermodel-attribute-mapper tenant"} {
		if !claims[claim] {
			t.Errorf("a token lacks what %q writes: %v", claim, claims)
		}
	}
	ui := 0
	for _, client := range r.Clients {
		if !slices.Contains(client.DefaultClientScopes, "altyn") {
			t.Errorf("the tokens of %s have no tenant", client.ClientID)
		}
		for _, scope := range client.OptionalClientScopes {
			if !slices.Contains(want, scope) {
				t.Errorf("%s may ask for %q, which is no scope", client.ClientID, scope)
			}
		}
		if client.ClientID != swagger.ClientID {
			continue
		}
		ui++
		for _, port := range []string{"8000", "8080", "8081", "8180", "8181"} {
			for _, host := range []string{"127.0.0.1", "localhost"} {
				page := "http://" + host + ":" + port
				if !slices.Contains(client.RedirectURIs, page+"/docs/oauth2-redirect.html") ||
					!slices.Contains(client.WebOrigins, page) {
					t.Errorf("%s may not log in", page)
				}
			}
		}
		if !client.PublicClient || !client.StandardFlowEnabled || client.Attributes["pkce.code.challenge.method"] != "S256" {
			t.Errorf("the client of Swagger UI is %+v", client)
		}
	}
	if ui != 1 {
		t.Errorf("there are %d clients %s", ui, swagger.ClientID)
	}
	for _, user := range r.Users {
		if tenant := user.Attributes["tenant"]; len(tenant) != 1 || identity.CheckTenant(tenant[0]) != nil {
			t.Errorf("%s is of the tenants %q", user.Username, tenant)
		}
	}
}

// What make gives Compose for each issuer is what the services take, and fits what Compose gives the issuer.
func TestIssuersOfCompose(t *testing.T) {
	var compose struct {
		Services map[string]struct {
			Profiles    []string
			Command     any
			Environment map[string]string
			Networks    map[string]struct{ Aliases []string }
			Ports       []string
		}
	}
	text, err := os.ReadFile("../docker-compose.yml")
	if err == nil {
		err = yaml.Unmarshal(text, &compose)
	}
	if err != nil {
		t.Fatal(err)
	}
	for profile, service := range map[string]string{"dev": "issuer", "keycloak": "keycloak"} {
		urls := named(t, `(?m)^ISSUER_OF_`+profile+` := (.*)$`, "../Makefile")
		if len(urls) != 1 {
			t.Fatalf("the Makefile names the issuers %q for %s", urls, profile)
		}
		if _, err := config.LoadFrom[bearer.Config](map[string]string{"AUTH": "jwt", "AUTH_ISSUER": urls[0],
			"AUTH_AUDIENCE": load.Audience}); err != nil {
			t.Errorf("%s: %v", profile, err)
		}
		s := compose.Services[service]
		base := strings.TrimSuffix(urls[0], "/realms/altyn")
		host, port, _ := strings.Cut(strings.TrimPrefix(base, "http://"), ":")
		if !slices.Equal(s.Profiles, []string{profile}) || !slices.Contains(s.Networks["default"].Aliases, host) ||
			!slices.Equal(s.Ports, []string{"127.0.0.1:" + port + ":" + port}) ||
			s.Environment["ISSUER_URL"]+s.Environment["KC_HOSTNAME"] != base {
			t.Errorf("%s is at %s in the Makefile, and %+v", profile, base, s)
		}
	}
}
