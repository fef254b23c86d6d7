package settlement

import _ "github.com/altyn-pay/altyn/orders/internal/order"
