package load

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/altyn-pay/altyn/platform/identity"
)

// Audience is that of the tokens of both forms of the stack.
const Audience = "altyn"

// Scopes are all scopes but that of operators.
func Scopes() []string {
	var scopes []string
	for _, scope := range identity.All() {
		if scope != identity.Operator {
			scopes = append(scopes, string(scope))
		}
	}
	return scopes
}

const tokenTimeout = 10 * time.Second

// Token gets a token of the issuer for development (deploy/cmd/issuer) at a URL.
func Token(ctx context.Context, issuer, subject, tenant string, scopes ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	cfg := clientcredentials.Config{
		ClientID: subject + "@" + tenant, ClientSecret: "any", Scopes: scopes,
		TokenURL: issuer + "/oauth/token", AuthStyle: oauth2.AuthStyleInHeader,
	}
	token, err := cfg.Token(ctx)
	if err != nil {
		return "", fmt.Errorf("get a token of %s: %w", issuer, err)
	}
	return token.AccessToken, nil
}
