#!/bin/sh
# Checks the specifications with the pinned programs of Node, which npm fetches once. Where there is no Node, or npm cannot
# fetch them, it says so, which is an error in CI alone.
set -eu
cd "$(dirname "$0")"
skip() {
	echo "NOT CHECKED: the Swagger documents by redocly, asyncapi.yaml by spectral: $1" >&2
	test -z "${CI:-}" || exit 1
	exit 0
}
command -v npm >/dev/null || skip 'there is no npm (Node 22, https://nodejs.org)'
if ! test node_modules/.package-lock.json -nt package-lock.json; then
	echo 'fetching the linters of the specifications …'
	# Without scripts: nothing but the packages is fetched, and nothing of them runs.
	npm ci --ignore-scripts --no-audit --no-fund --loglevel=error || skip 'npm could not fetch them'
fi
export REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true
exec npm run --silent lint
