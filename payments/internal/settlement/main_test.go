package settlement

import (
	"testing"

	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

func TestMain(m *testing.M) { postgrestest.CitusMain(m) }
