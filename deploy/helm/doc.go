// Package helm tests the chart altyn: it renders it by Helm's own engine for several sets of values, reads the result
// strictly as the types of the Kubernetes API, and holds it against the programs that it starts.
//
// It is a module of its own, so that what Helm and Kubernetes need is no concern of the services:
//
//	GOWORK=off go -C deploy/helm test ./...
package helm
