// Command security writes what the calls of payments need into the specification; go generate runs it.
package main

import (
	"fmt"
	"os"
	"slices"

	"github.com/altyn-pay/altyn/payments/internal/api"
	"github.com/altyn-pay/altyn/platform/operators"
	"github.com/altyn-pay/altyn/platform/swagger"
)

func main() {
	routes := slices.Concat((*api.API)(nil).Routes(), (*operators.API)(nil).Routes())
	if err := swagger.Secure(os.Args[1], routes...); err != nil {
		fmt.Fprintln(os.Stderr, "security:", err)
		os.Exit(1)
	}
}
