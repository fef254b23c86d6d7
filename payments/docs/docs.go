// Package docs is the specification of the HTTP API of payments. The comments of its handlers say what it is made of;
// go generate ./payments/cmd/payments writes it anew.
package docs

import _ "embed"

// Document is a Swagger 2.0 document.
//
//go:embed swagger.json
var Document string
