package bearer

import (
	"fmt"
	"os"
	"strings"

	"github.com/altyn-pay/altyn/platform/config"
)

// Credential is the settings of a client that may need a token.
type Credential struct {
	Token string `env:"ALTYN_TOKEN" secret:"true" help:"token to show, where the stack wants one (AUTH=jwt)"`
	File  string `flag:"token-file" value:"FILE" help:"file of that token, as ALTYN_TOKEN_FILE is"`
}

// Validate refuses two tokens.
func (c Credential) Validate() error {
	if c.Token != "" && c.File != "" {
		return config.Invalid("--token-file", "must not be set where ALTYN_TOKEN is")
	}
	return nil
}

// Read returns the token; "" where there is none.
func (c Credential) Read() (string, error) {
	if c.File == "" {
		return c.Token, nil
	}
	text, err := os.ReadFile(c.File)
	token := strings.TrimSpace(string(text))
	if err == nil && token == "" {
		err = fmt.Errorf("%s is empty", c.File)
	}
	if err != nil {
		return "", &config.Wrong{Name: "--token-file", Value: c.File, Must: "must be a file with a token: " + err.Error(),
			Err: err}
	}
	return token, nil
}
