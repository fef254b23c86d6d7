#!/bin/sh
# Prints the notes of a release: the section of a CHANGELOG.md about a version, whose links to files of the repository are
# made whole. Usage: notes.sh 0.1.0 <CHANGELOG.md
set -eu
awk -v version="$1" -v files="https://github.com/altyn-pay/altyn/blob/v$1/" '
	/^## / { inside = index($0, "## [" version "]") == 1; found = found || inside; next }
	inside {
		gsub(/\]\(/, "](" files)
		gsub("\\]\\(" files "https://", "](https://")
		print
	}
	END {
		if (!found) { print "CHANGELOG.md has no section [" version "]" >"/dev/stderr"; exit 1 }
	}'
