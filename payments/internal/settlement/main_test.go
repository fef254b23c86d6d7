package settlement

import (
	"testing"

	"github.com/altyn-pay/altyn/platform/postgrestest"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }
