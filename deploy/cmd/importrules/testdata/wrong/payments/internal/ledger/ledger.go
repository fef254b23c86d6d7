package ledger

import (
	_ "net/http"
	_ "os"

	_ "github.com/altyn-pay/altyn/platform/kafka"
)
