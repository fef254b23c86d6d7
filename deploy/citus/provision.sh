#!/usr/bin/env bash
# Makes the database and the roles of payments, with the extension, when a server of Citus starts on an empty volume; and the
# file of passwords by which the servers let each other in. The same on the coordinator and on the nodes.
set -euo pipefail

superuser=${POSTGRES_USER:-postgres}
psql --username "$superuser" --dbname postgres --no-psqlrc --quiet --set ON_ERROR_STOP=1 \
  --set database=payments \
  --set owner=payments_owner --set owner_password="$PAYMENTS_OWNER_PASSWORD" \
  --set user=payments_service --set password="$PAYMENTS_PASSWORD" \
  --file /provision.sql
psql --username "$superuser" --dbname payments --no-psqlrc --quiet --set ON_ERROR_STOP=1 \
  --command 'CREATE EXTENSION IF NOT EXISTS citus'

quoted() { sed 's/[\\:]/\\&/g' <<<"$1"; } # as libpq reads it
(
  umask 077
  printf '*:*:*:%s:%s\n' \
    "$superuser" "$(quoted "$POSTGRES_PASSWORD")" \
    payments_owner "$(quoted "$PAYMENTS_OWNER_PASSWORD")" \
    payments_service "$(quoted "$PAYMENTS_PASSWORD")" >"$PGPASSFILE"
)
