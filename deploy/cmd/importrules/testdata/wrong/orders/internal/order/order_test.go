package order

import _ "os"
