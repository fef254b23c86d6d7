// Package observability is what watches Altyn: the rules of alerts and their tests, and the dashboards. Its tests keep
// rules, runbooks and metrics together.
package observability
