package contract_test

import _ "github.com/altyn-pay/altyn/orders/internal/order"
