#!/usr/bin/env bash
# Makes the databases and the roles of both services when the PostgreSQL container starts on an empty volume. What is made
# is said by platform/postgres/provision.sql, mounted as /provision.sql; passwords come from the container's environment.
set -euo pipefail

for service in orders payments; do
  password=${service^^}_PASSWORD
  owner_password=${service^^}_OWNER_PASSWORD
  psql --username "${POSTGRES_USER:-postgres}" --dbname postgres --no-psqlrc --quiet --set ON_ERROR_STOP=1 \
    --set database="$service" \
    --set owner="${service}_owner" --set owner_password="${!owner_password}" \
    --set user="${service}_service" --set password="${!password}" \
    --file /provision.sql
done
