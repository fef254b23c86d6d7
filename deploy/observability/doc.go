// Package observability is what watches Altyn: the rules of alerts and their tests, and the dashboards. Its tests keep
// rules, runbooks and metrics together.
package observability

// The chart has a copy of the rules: Helm reads no file outside of it.
//
//go:generate cp alerts.yml ../helm/altyn/files/alerts.yml
