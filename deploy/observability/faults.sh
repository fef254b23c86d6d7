#!/usr/bin/env bash
# Injects faults into the stack that make start OBSERVABILITY=1 runs here, one by one, and ends each as its runbook says. Prints
# which alerts fired meanwhile, and after how many seconds. Needs curl, jq and psql; faults of the broker need Apache Kafka
# (KAFKA=apache), and mvn once for its tools. Usage: faults.sh FAULT…; without any, it lists them.
# What the stack was started with (POSTGRES_PORT, AUTH …) must be set here too. Never run it where money is real.
set -euo pipefail
cd "$(dirname "$0")/../.."
wait_for=${WAIT_FOR:-120} # seconds that an alert has
hold=${HOLD:-30}          # seconds that a fault lasts after its alert, for what follows from it
work=$PWD/.altyn/faults
mkdir -p "$work"

part() { jq -r --arg name "$1" ".parts[] | select(.Name == \$name) | .$2" .altyn/state.json; }
gateway=$(part gateway URL) prometheus=$(part prometheus URL) broker=$(part kafka URL)
prometheus=${prometheus/tcp/http} broker=${broker#tcp://}
api() { curl -sk -m 5 -H "Authorization: Bearer $token" -H 'Content-Type: application/json' "$@" || :; }
call() { api "$gateway/api/v1/$1" -d "$2"; }
sql() { PGPASSWORD=${3:-$1_owner} psql -qAt -h 127.0.0.1 -p "${POSTGRES_PORT:-54320}" -U "${3:-$1_owner}" "$1" -c "$2"; }
admin() { api "$(part "$1" AdminURL)/admin/$2" "${@:3}"; }
redrive() { for id in $(admin "$1" parked | jq -r '.items[].id'); do admin "$1" "parked/$id/redrive" -X POST >/dev/null; done; }
token=none
if [ -n "$(part issuer PID)" ]; then # make start AUTH=dev
	ISSUER_URL=$(part issuer URL)
	export ISSUER_URL
	token=$(SCOPE="accounts:write money:in orders:write orders:read operator" .altyn/bin/issuer token)
fi

# signal reaches the process group of a service, which is its guard and the program, and a server with its children.
signal() { # SIGNAL PART…
	local part pid
	for part in "${@:2}"; do
		pid=$(part "$part" PID)
		case $part in
		postgres | kafka) kill "-$1" "$pid" $(pgrep -P "$pid") ;;
		*) kill "-$1" -- "-$pid" ;;
		esac
	done
}
pause() { signal STOP "$@"; }
go_on() { signal CONT "$@"; }
# gone: it ends, and cannot be started again.
gone() { mv ".altyn/bin/$1" "$work/$1"; signal KILL "$@"; }
back() { mv "$work/$1" ".altyn/bin/$1"; }
# slow: it stands for nine tenths of the time.
slow() { while :; do pause "$@"; sleep 0.9; go_on "$@"; sleep 0.1; done & background=$!; }
slow_end() { kill "$background"; wait "$background" 2>/dev/null || :; go_on "$@"; }

payments_paused() { pause payments payments-worker; }
payments_paused_end() { go_on payments payments-worker; }
orders_paused() { pause orders; }
orders_paused_end() { go_on orders; }
gateway_paused() { pause gateway; }
gateway_paused_end() { go_on gateway; }
kafka_paused() { pause kafka; }
kafka_paused_end() { go_on kafka; }
postgres_paused() { pause postgres; }
postgres_paused_end() { go_on postgres; }
issuer_paused() { pause issuer; }
issuer_paused_end() { go_on issuer; }

payments_gone() { gone payments payments-worker; }
payments_gone_end() { back payments; }
orders_gone() { gone orders; }
orders_gone_end() { back orders; }
gateway_gone() { gone gateway; }
gateway_gone_end() { back gateway; }
orders_crash() { for _ in 1 2 3; do signal KILL orders; sleep 12; done; }
orders_crash_end() { :; }
kafka_killed() { signal KILL kafka; } # the runner starts it again, as PostgreSQL
kafka_killed_end() { :; }
postgres_killed() { kill -KILL "$(part postgres PID)"; }
postgres_killed_end() { :; }

payments_slow() { slow payments payments-worker; }
payments_slow_end() { slow_end payments payments-worker; }
orders_slow() { slow orders; }
orders_slow_end() { slow_end orders; }
gateway_slow() { slow gateway; }
gateway_slow_end() { slow_end gateway; }
kafka_slow() { slow kafka; }
kafka_slow_end() { slow_end kafka; }
postgres_slow() { slow postgres; }
postgres_slow_end() { slow_end postgres; }

lock_held() { sql payments 'BEGIN; LOCK TABLE balances; SELECT pg_sleep(600)' >/dev/null 2>&1 & }
lock_held_end() {
	sql payments 'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid IN (SELECT unnest(pg_blocking_pids(pid))
		FROM pg_stat_activity) AND cardinality(pg_blocking_pids(pid)) = 0' postgres >/dev/null
}
inserts_slow() { # TABLE STATEMENT|ROW SECONDS
	sql payments "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN PERFORM pg_sleep($3); RETURN NULL; END \$\$;
		CREATE TRIGGER slow AFTER INSERT ON $1 FOR EACH $2 EXECUTE FUNCTION slow()"
}
statements_slow() { inserts_slow entries STATEMENT 2; }
statements_slow_end() { sql payments 'DROP FUNCTION slow() CASCADE' 2>/dev/null; }
# The settlement, which reads orders, takes a hundred a second, and more than that come in.
reader_slow() {
	inserts_slow entries ROW 0.005
	local batch
	batch=$(jq -n --arg account "$account" '{orders: [range(100) | {account_id: $account, amount: "0.01", currency: "RUB"}]}')
	for _ in $(seq "${BATCHES:-400}"); do call orders/batch "$batch" >/dev/null; done
	begin=$SECONDS
}
reader_slow_end() { statements_slow_end; }
# Somebody looks at one moment, and goes home.
transaction_idle() {
	{ echo 'SET idle_in_transaction_session_timeout = 0; BEGIN; SELECT 1;'; sleep 1800; } |
		PGPASSWORD=orders_service psql -qAt -h 127.0.0.1 -p "${POSTGRES_PORT:-54320}" -U orders_service orders >/dev/null 2>&1 &
}
transaction_idle_end() {
	sql orders 'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE xact_start IS NOT NULL ORDER BY xact_start LIMIT 1' \
		postgres >/dev/null
}
audit_locked() { sql payments 'BEGIN; LOCK TABLE audit; SELECT pg_sleep(1800)' >/dev/null 2>&1 & }
audit_locked_end() { lock_held_end; }
poisoned() {
	sql payments "CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN
		IF NEW.reference = 'poison' THEN RAISE EXCEPTION 'fault'; END IF; RETURN NEW; END \$\$;
		CREATE TRIGGER fault BEFORE INSERT ON operations FOR EACH ROW EXECUTE FUNCTION fault()"
	call "accounts/$(call accounts '{}' | jq -r .id)/deposits" '{"amount": "1.00", "currency": "RUB", "reference": "poison"}' >/dev/null
}
poisoned_end() { sql payments 'DROP TRIGGER fault ON operations; DROP FUNCTION fault()'; redrive payments; }
# A session that hangs holds the lock of the relay.
relay_frozen() {
	sql orders 'SELECT pg_advisory_lock(1634497538, 0); SELECT pg_sleep(600)' postgres >/dev/null 2>&1 &
	sleep 1
	relay_frozen_end
}
relay_frozen_end() {
	sql orders "SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
		WHERE datname = 'orders' AND locktype = 'advisory' AND classid = 1634497538 AND granted" postgres >/dev/null
}
balance_edited() {
	edited=$(call accounts '{}' | jq -r .id)
	for change in '' "UPDATE balances SET actual = actual + 1 WHERE account_id = '$edited'"; do
		sql payments "$change"
		call "accounts/$edited/deposits" '{"amount": "1.00", "currency": "RUB"}' >/dev/null
	done
}
balance_edited_end() { # with the entry that was written meanwhile
	sql payments "UPDATE balances SET actual = actual - 1 WHERE account_id = '$edited'"
	sql payments "UPDATE entries SET balance_after = balance_after - 1 WHERE account_id = '$edited' AND number = 2"
}
# Another commit than that of the instances that run.
old_version() {
	cp .altyn/bin/payments "$work/payments"
	go build -ldflags '-X github.com/altyn-pay/altyn/platform/config.revision=older' -o .altyn/bin/ ./payments/cmd/payments
	begin=$SECONDS
	signal KILL payments-worker
}
old_version_end() { cp "$work/payments" .altyn/bin/payments.new; mv .altyn/bin/payments.new .altyn/bin/payments; signal TERM payments-worker; }

kafka() { # CLASS ARGUMENT…: a command of Apache Kafka, of which the runner has only what the server needs
	local tools=$work/kafka libs=${XDG_CACHE_HOME:-$HOME/.cache}/altyn/kafka-4.3.1/libs
	[ -d "$tools" ] || for jar in org.apache.kafka:kafka-tools:4.3.1 net.sourceforge.argparse4j:argparse4j:0.7.0; do
		mvn -q org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy -Dartifact=$jar -DoutputDirectory="$tools"
	done
	java -Dorg.slf4j.simpleLogger.defaultLogLevel=error -cp "$tools/*:$libs/*" "$@"
}
topics=org.apache.kafka.tools.TopicCommand configs=kafka.admin.ConfigCommand
write() { kafka org.apache.kafka.tools.ConsoleProducer --bootstrap-server "$broker" --topic "$1" "${@:2}"; }
configure() { kafka $configs --bootstrap-server "$broker" --alter --entity-type topics --entity-name "$1" "${@:2}" >/dev/null; }

dead_letter() { echo 'not JSON' | write orders >/dev/null; }
dead_letter_end() { :; }
topic_deleted() { kafka $topics --bootstrap-server "$broker" --delete --topic orders; }
topic_deleted_end() { :; }
message_refused() { configure orders --add-config max.message.bytes=100; sleep 5; }
message_refused_end() { configure orders --delete-config max.message.bytes; redrive orders; }
# An event of one of the orders, with a later version, of another account.
event_parked() {
	local id event
	id=$(call 'orders?wait=5s' "{\"account_id\": \"$account\", \"amount\": \"1.00\", \"currency\": \"RUB\"}" | jq -r .id)
	event=$({ kafka org.apache.kafka.tools.consumer.ConsoleConsumer --bootstrap-server "$broker" --topic payments --from-beginning \
		2>/dev/null || :; } | grep -m 1 "$id" |
		jq -c --arg other "$(call accounts '{}' | jq -r .id)" '.account_id = $other | .version += 1')
	printf 'ce_specversion:1.0,ce_id:%s,ce_type:payment.succeeded,ce_source:/payments,ce_subject:%s,content-type:application/json\t%s\t%s\n' \
		"$account" "$id" "$account" "$event" |
		write payments --reader-property parse.headers=true --reader-property parse.key=true >/dev/null
}
event_parked_end() { for id in $(admin orders parked | jq -r '.items[].id'); do admin orders "parked/$id/discard" -d '{"reason": "a fault"}' >/dev/null; done; }
# A producer that died with its transaction open.
transaction_open() {
	kafka org.apache.kafka.tools.ProducerPerformance --topic orders --num-records 1000 --record-size 10 --throughput 10 \
		--transactional-id fault --transaction-duration-ms 600000 --command-property bootstrap.servers="$broker" \
		transaction.timeout.ms=600000 >/dev/null 2>&1 &
	background=$!
	sleep 30
	begin=$SECONDS
	pkill -KILL -P $background || kill -KILL $background
}
transaction_open_end() {
	kafka org.apache.kafka.tools.TransactionsCommand --bootstrap-server "$broker" forceTerminateTransaction --transactionalId fault
}
# A second broker takes a partition, and dies.
second() {
	sed "s/^process.roles=.*/process.roles=broker/; s/^node.id=.*/node.id=2/; s|^log.dirs=.*|log.dirs=$work/broker|; /^advertised/d
		s|^listeners=.*|listeners=CLIENTS://127.0.0.1:${BROKER_2:-9192}|" .altyn/data/kafka/server.properties >"$work/broker.properties"
	[ -d "$work/broker" ] || kafka kafka.tools.StorageTool format --config "$work/broker.properties" --no-initial-controllers \
		--cluster-id YWx0eW4tbG9jYWxrYWZrYQ >/dev/null
	kafka kafka.Kafka "$work/broker.properties" >"$work/broker.log" 2>&1 &
	background=$!
	until (exec 3<>"/dev/tcp/127.0.0.1/${BROKER_2:-9192}") 2>/dev/null; do sleep 1; done
}
move() { # to a broker
	echo "{\"version\": 1, \"partitions\": [{\"topic\": \"orders\", \"partition\": 0, \"replicas\": [$1]}]}" >"$work/move.json"
	kafka org.apache.kafka.tools.reassign.ReassignPartitionsCommand --bootstrap-server "$broker" \
		--reassignment-json-file "$work/move.json" --execute >/dev/null
	until kafka $topics --bootstrap-server "$broker" --describe --topic orders | grep -q "Partition: 0.*Leader: $1"; do sleep 1; done
}
no_leader() { second; move 2; begin=$SECONDS; pkill -KILL -P $background || kill -KILL $background; }
no_leader_end() { second; }
no_leader_after() { move 1; pkill -P $background || kill $background; }

# What follows needs a stack that was started for it.
# With OUTBOX_MAX_AGE=10s.
outbox_full() { pause kafka; }
outbox_full_end() { go_on kafka; }
# With POSTGRES_MAX_CONNS=2.
pool_exhausted() { lock_held; }
pool_exhausted_end() { lock_held_end; }
# With TLS_CERT_FILE and TLS_KEY_FILE, of a certificate that is its own authority (GATEWAY_UPSTREAM_CA_FILE, a copy).
certificate() { # COMMAND…: puts another one in its place; the command is before openssl
	[ -e "$work/cert.pem" ] || cp "$TLS_CERT_FILE" "$work/cert.pem"
	"$@" openssl req -x509 -new -key "$TLS_KEY_FILE" -days 1 -subj /CN=altyn -addext subjectAltName=IP:127.0.0.1 \
		-out "$TLS_CERT_FILE.new"
	mv "$TLS_CERT_FILE.new" "$TLS_CERT_FILE"
}
certificate_ends() { certificate env; }
certificate_ends_end() { mv "$work/cert.pem" "$TLS_CERT_FILE"; }
certificate_ended() { certificate faketime '2 days ago'; }
certificate_ended_end() { certificate_ends_end; }
# With a PostgreSQL (POSTGRES_HOST) under libfaketime, whose FAKETIME_TIMESTAMP_FILE is CLOCK_FILE.
clock_wrong() { echo -60 >"$CLOCK_FILE"; }
clock_wrong_end() { echo +0 >"$CLOCK_FILE"; }
# With a PostgreSQL on a small disk, DISK.
node() { # lets Prometheus look at a node exporter, with what is in its folder
	prometheus-node-exporter --web.listen-address="$NODE_ADDR" --collector.disable-defaults --collector.filesystem \
		--collector.textfile --collector.textfile.directory="$work" >"$work/node.log" 2>&1 &
	exporter=$!
	jq --arg addr "$NODE_ADDR" '.scrape_configs |= map(select(.job_name != "node")) + [{job_name: "node", static_configs: [{targets: [$addr]}]}]' \
		.altyn/prometheus.yml >"$work/prometheus.yml"
	cp "$work/prometheus.yml" .altyn/prometheus.yml
	signal HUP prometheus
}
disk_full() { node; fallocate -l "$(($(df --output=avail -B1 "$DISK" | tail -1) - 4096))" "$DISK/fault"; }
disk_full_end() { rm "$DISK/fault"; }
disk_full_after() { kill "$exporter"; }
# With a node exporter too, whose address is NODE_ADDR.
services_disagree() {
	node
	edited=$(call 'orders?wait=5s' "{\"account_id\": \"$account\", \"amount\": \"1.00\", \"currency\": \"RUB\"}" | jq -r .id)
	sql orders "UPDATE orders SET status = 'failed', reason = 'rejected' WHERE id = '$edited'"
	sleep 3
	reconcile
}
reconcile() {
	ALTYN_TOKEN=$token .altyn/bin/altyn reconcile --orders "$(part orders AdminURL)" --payments "$(part payments AdminURL)" \
		--in-flight 1s --metrics "$work/altyn.prom" "$@" || :
}
services_disagree_end() {
	sql orders "UPDATE orders SET status = 'paid', reason = DEFAULT WHERE id = '$edited'"
	sleep 3
	reconcile
}
services_disagree_after() { kill "$exporter"; }

declare -A alert=(
	[payments_paused]=ServiceDown [orders_paused]=ServiceDown [gateway_paused]=ServiceDown [kafka_paused]=BrokerAway
	[postgres_paused]=DatabaseAway [issuer_paused]=IssuerAway
	[payments_gone]=ServiceDown [orders_gone]=ServiceDown [gateway_gone]=ServiceDown [orders_crash]=ServiceRestarts
	[kafka_killed]=none [postgres_killed]=none
	[payments_slow]=ServiceSlow [orders_slow]=ServiceSlow [gateway_slow]=ServiceSlow [kafka_slow]=OrdersLate [postgres_slow]=OrdersLate
	[lock_held]=LockHeld [statements_slow]=SettlementSlow [reader_slow]=ConsumerLag
	[transaction_idle]=LongTransaction [audit_locked]=AuditStalls [poisoned]=AccountsParked [relay_frozen]=OutboxStuck
	[balance_edited]=BooksWrong [old_version]=VersionsDiffer [dead_letter]=DeadLetters
	[topic_deleted]=none [message_refused]=OutboxParked [event_parked]=EventsParked
	[transaction_open]=ConsumerStuck [no_leader]=PartitionRefuses
	[outbox_full]=OutboxFull [pool_exhausted]=PoolExhausted [certificate_ends]=CertificateExpires
	[certificate_ended]=CertificateExpires [clock_wrong]=ClockSkew [disk_full]=DiskFills [services_disagree]=ServicesDisagree)
[ $# -gt 0 ] || { printf '%s\n' "${!alert[@]}" | sort; exit; }

account=$(call accounts '{}' | jq -r .id)
call "accounts/$account/deposits" '{"amount": "1000000.00", "currency": "RUB"}' >/dev/null
# Ten orders a second, of as many accounts as there are partitions and more.
orders() {
	local accounts=("$account")
	for _ in 1 2 3 4 5 6 7 8 9; do
		accounts+=("$(call accounts '{}' | jq -r .id)")
		call "accounts/${accounts[-1]}/deposits" '{"amount": "1000000.00", "currency": "RUB"}' >/dev/null
	done
	while :; do
		call orders "{\"account_id\": \"${accounts[RANDOM % 10]}\", \"amount\": \"1.00\", \"currency\": \"RUB\"}" >/dev/null
		sleep 0.1
	done
}
orders & load=$!
trap 'kill $load 2>/dev/null' EXIT

firing() { curl -s "$prometheus/api/v1/query" --data-urlencode 'query=count by (alertname) (ALERTS{alertstate="firing"})' |
	jq -r '.data.result[].metric.alertname' | sort; }
lasting='AuditStalls|OrdersLate|RequestsFail|ServiceRestarts|DeadLetters' # end by their windows, minutes after their cause
look() { # adds to seen what fires, with the second since begin
	local name
	for name in $(firing); do [ -n "${seen[$name]:-}" ] || seen[$name]=$((SECONDS - begin)); done
}
try() { # FAULT ALERT
	local begin=$SECONDS end before name list=''
	local -A seen=()
	while firing | grep -qvxE "$lasting" && ((SECONDS - begin < 120)); do sleep 3; done
	before=$(firing | tr '\n' ' ')
	begin=$SECONDS
	"$1"
	while [ -z "${seen[$2]:-}" ] && ((SECONDS - begin < wait_for)); do look; sleep 2; done
	end=$((SECONDS + hold))
	while ((SECONDS < end)); do look; sleep 2; done
	end=$SECONDS
	"$1_end"
	while firing | grep -vxE "$lasting" | grep -qx "$2" && ((SECONDS - end < 120)); do look; sleep 2; done
	end="$((SECONDS - end)) s"
	! firing | grep -qx "$2" || end='not yet'
	if declare -F "$1_after" >/dev/null; then "$1_after"; fi
	for name in "${!seen[@]}"; do [ "$name" = "$2" ] || list+="$name ${seen[$name]}, "; done
	echo "| $1 | $2 | ${seen[$2]:-not} s | ${list%, } | $end | before: $before|"
}
echo '| fault | alert | fired after | others, fired after s | gone after its end | |'
for fault; do try "$fault" "${alert[$fault]}"; done
