package edge

import _ "github.com/altyn-pay/altyn/payments/docs"
