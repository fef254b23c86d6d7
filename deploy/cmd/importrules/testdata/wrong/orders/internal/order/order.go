package order

import (
	_ "context"
	_ "fmt"

	_ "github.com/altyn-pay/altyn/platform/contract"
	_ "github.com/google/uuid"
	_ "github.com/jmoiron/sqlx"
)
