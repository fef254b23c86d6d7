module github.com/altyn-pay/altyn

go 1.26.0
