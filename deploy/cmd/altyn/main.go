// Command altyn is for those who run Altyn: it asks the running system, from outside.
package main

import (
	"os"

	"github.com/altyn-pay/altyn/platform/config"
)

const about = `altyn asks a running system what those who run it want to know.`

func main() {
	os.Exit(config.Program{Name: "altyn", About: about, Commands: []config.Command{reconcileCommand(os.Stdout)}}.Main())
}
