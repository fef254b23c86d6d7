#!/usr/bin/env bash
# Tells the coordinator of Citus its own name and the nodes. What it knows already stays as it is.
set -euo pipefail

psql --username postgres --dbname payments --no-psqlrc --quiet --set ON_ERROR_STOP=1 <<'SQL'
SELECT citus_set_coordinator_host('citus', 5432);
SELECT citus_add_node('citus-1', 5432);
SELECT citus_add_node('citus-2', 5432);
SQL
