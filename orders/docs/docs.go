// Package docs is the specification of the HTTP API of orders, generated from the comments of its handlers by go
// generate.
package docs

import _ "embed"

// Document is a Swagger 2.0 document.
//
//go:embed swagger.json
var Document string
