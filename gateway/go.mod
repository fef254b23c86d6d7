module github.com/altyn-pay/altyn/gateway

go 1.26.0

require github.com/altyn-pay/altyn/platform v0.0.0

require (
	github.com/go-chi/chi/v5 v5.5.0 // indirect
	github.com/prometheus/client_golang v1.25.0 // indirect
	go.uber.org/goleak v1.3.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
)

replace github.com/altyn-pay/altyn/platform => ../platform
