-- The two roles and the database of one service. This is the only place that says how they are made: Go runs it (Provision),
-- and so does psql for whoever sets up a server by hand or in a container:
--
--   psql --username postgres --set database=orders --set owner=orders_owner --set owner_password=… \
--        --set user=orders_service --set password=… --file provision.sql
--
-- Statements end with a semicolon at the end of a line; a role or a database that exists already is left as it is.

CREATE ROLE :"owner";
CREATE ROLE :"user";
ALTER ROLE :"owner" LOGIN PASSWORD :'owner_password';
ALTER ROLE :"user" LOGIN PASSWORD :'password';

CREATE DATABASE :"database" OWNER :"owner";

-- Nobody else enters, and the service's role makes no tables, not even temporary ones. (In the schema "public" only the
-- database's owner may, since PostgreSQL 15.)
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO :"user";
