package main

// The general part of the specification, for swag.
//
//	@title			Altyn payments
//	@version		1.0
//	@description	Accounts in several currencies, and the payments of orders. Amounts are decimal strings.
//	@description	Errors are application/problem+json (RFC 9457) with a code of a closed list.
//	@license.name	Apache-2.0
//	@BasePath		/

//go:generate go tool swag init --quiet --dir .,../../internal/api,../../../platform/httpserver,../../../platform/money,../../../platform/contract --generalInfo doc.go --output ../../docs --outputTypes go,json
