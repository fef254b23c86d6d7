#!/usr/bin/env bash
# Injects faults into the stack that make start OBSERVABILITY=1 runs here, one by one, and says which alerts fired, and after
# how many seconds. Needs curl, jq and psql. Usage: faults.sh [FAULT…]; without any, all of them.
# The addresses are those of the runner; GATEWAY, PROMETHEUS and POSTGRES_PORT move them. Never run it where money is real.
set -euo pipefail
cd "$(dirname "$0")/../.."
gateway=${GATEWAY:-http://127.0.0.1:8000} prometheus=${PROMETHEUS:-http://127.0.0.1:9090}
wait_for=${WAIT_FOR:-120} # seconds that an alert has

# group is the process group of a part: its guard, and the program.
group() { jq -r --arg name "$1" '.parts[] | select(.Name == $name) | .PID' .altyn/state.json; }
pause() { for part; do kill -STOP -- "-$(group "$part")"; done; }
go_on() { for part; do kill -CONT -- "-$(group "$part")"; done; }
sql() { PGPASSWORD=payments_owner psql -qAt -h 127.0.0.1 -p "${POSTGRES_PORT:-54320}" -U payments_owner payments -c "$1"; }
call() { curl -s -m 5 -H "Content-Type: application/json" "$gateway/api/v1/$1" -d "$2" || :; }
firing() { curl -s "$prometheus/api/v1/query" --data-urlencode 'query=count by (alertname) (ALERTS{alertstate="firing"})' |
	jq -r '.data.result[].metric.alertname' | sort; }

account=$(call accounts '{}' | jq -r .id)
call "accounts/$account/deposits" '{"amount": "1000000.00", "currency": "RUB"}' >/dev/null
orders() { while :; do call orders "{\"account_id\": \"$account\", \"amount\": \"1.00\", \"currency\": \"RUB\"}" >/dev/null || :; sleep 0.1; done; }
orders & load=$!
trap 'kill $load 2>/dev/null' EXIT

payments_paused() { pause payments payments-worker; }
payments_paused_end() { go_on payments payments-worker; }
orders_paused() { pause orders; }
orders_paused_end() { go_on orders; }
gateway_paused() { pause gateway; }
gateway_paused_end() { go_on gateway; }
kafka_paused() { kill -STOP "$(group kafka)"; }
kafka_paused_end() { kill -CONT "$(group kafka)"; }
postgres_paused() { kill -STOP "$(group postgres)"; pkill -STOP -P "$(group postgres)"; }
postgres_paused_end() { pkill -CONT -P "$(group postgres)"; kill -CONT "$(group postgres)"; }
orders_crash() { for _ in 1 2 3; do kill -9 -- "-$(group orders)"; sleep 12; done; }
orders_crash_end() { :; }
lock_held() { sql 'BEGIN; LOCK TABLE balances; SELECT pg_sleep(600)' >/dev/null 2>&1 & }
lock_held_end() { sql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%LOCK TABLE balances; SELECT pg_sleep%' AND pid <> pg_backend_pid()" >/dev/null; }
poisoned() {
	sql "CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN
		IF NEW.reference = 'poison' THEN RAISE EXCEPTION 'fault'; END IF; RETURN NEW; END \$\$;
		CREATE TRIGGER fault BEFORE INSERT ON operations FOR EACH ROW EXECUTE FUNCTION fault()"
	call "accounts/$(call accounts '{}' | jq -r .id)/deposits" '{"amount": "1.00", "currency": "RUB", "reference": "poison"}' >/dev/null
}
poisoned_end() {
	sql 'DROP TRIGGER fault ON operations; DROP FUNCTION fault()'
	local admin=${PAYMENTS_ADMIN:-http://127.0.0.1:8181}
	for id in $(curl -s "$admin/admin/parked" | jq -r '.items[].id'); do curl -s -X POST "$admin/admin/parked/$id/redrive" >/dev/null; done
}
slow() {
	sql "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN PERFORM pg_sleep(2); RETURN NULL; END \$\$;
		CREATE TRIGGER slow AFTER INSERT ON entries FOR EACH STATEMENT EXECUTE FUNCTION slow()"
}
slow_end() { sql 'DROP TRIGGER slow ON entries; DROP FUNCTION slow()'; }

try() { # FAULT ALERT
	local begin=$SECONDS fired='' seen=''
	# The objectives' alerts end minutes after their cause.
	while firing | grep -qvxE 'OrdersLate|RequestsFail|ServiceRestarts' && ((SECONDS - begin < 90)); do sleep 3; done
	local before; before=$(firing | tr '\n' ' ')
	begin=$SECONDS
	"$1"
	while ((SECONDS - begin < wait_for)); do
		seen=$( (echo "$seen" | tr ' ' '\n'; firing) | sort -u | tr '\n' ' ')
		if [ -z "$fired" ] && [[ " $seen " == *" $2 "* ]]; then fired=$((SECONDS - begin)); break; fi
		sleep 2
	done
	"$1_end"
	local end=$SECONDS
	while firing | grep -qx "$2" && ((SECONDS - end < 330)); do sleep 3; done
	echo "| $1 | $2 | ${fired:-not} | ${seen# } | $((SECONDS - end)) | before: $before|"
}

declare -A alert=(
	[payments_paused]=ServiceDown [orders_paused]=ServiceDown [gateway_paused]=ServiceDown [kafka_paused]=BrokerAway
	[postgres_paused]=DatabaseAway [orders_crash]=ServiceRestarts [lock_held]=LockHeld [poisoned]=AccountsParked [slow]=SettlementSlow)
[ $# -gt 0 ] || set -- "${!alert[@]}"
echo '| fault | alert | fired after, s | seen until then | ended after, s | |'
for fault; do try "$fault" "${alert[$fault]}"; done
