package contract

import _ "embed"

// AsyncAPI is the document that describes the topics and their messages to other languages, in YAML. A test keeps it in
// step with the types of this package; contracttest checks real messages against it.
//
//go:embed asyncapi.yaml
var AsyncAPI string
