#!/bin/sh
# Builds the site of docs/ into .docs/site and fails at a dead link. The pinned programs of Python are fetched once, into a
# virtual environment. Where there is no Python it says so. Where pip cannot fetch them it says so too, which is an error in CI.
set -eu
cd "$(dirname "$0")/../.."
skip() {
	echo "NOT CHECKED: the links of the documents, by mkdocs: $1" >&2
	exit "${2:-0}"
}
python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null ||
	skip 'there is no Python 3.10 with venv (https://python.org)'
programs=.docs/programs
if ! cmp -s deploy/tools/requirements.txt "$programs/requirements.txt"; then
	echo 'fetching the programs that build the site …'
	python3 -m venv --clear "$programs" &&
		"$programs/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
			--requirement deploy/tools/requirements.txt || skip 'pip could not fetch it' ${CI:+1}
	cp deploy/tools/requirements.txt "$programs/requirements.txt"
fi
NO_MKDOCS_2_WARNING=1 exec "$programs/bin/mkdocs" build --strict
