// Command altyn is for those who run Altyn: it asks the running system, from outside.
package main

import (
	"os"

	"github.com/altyn-pay/altyn/platform/config"
)

const about = `altyn asks a running system what those who run it want to know.`

const more = `Exit codes: 0 right, 1 not right or not there, 2 it could not look (or wrong arguments).`

func main() {
	os.Exit(config.Program{Name: "altyn", About: about, More: more, Commands: []config.Command{
		explainCommand(os.Stdout), reconcileCommand(os.Stdout),
	}}.Main())
}
