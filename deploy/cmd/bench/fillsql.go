package main

// The rows that the services leave behind of paid orders, in SQL. Everything about an order happens within 8 ms.

// chunk are the orders from number $1 to before $2, counted from 0. $3 and $4 are the time of number 0, and from each
// to the next, in microseconds; $5 is the number of accounts. The ID is made as the services do it, UUIDv7, of the
// order's time and number, and so the same in both databases. round is how many orders the account had before.
const chunk = `
	WITH chunk AS MATERIALIZED (
		SELECT o.i, o.i / $5::bigint AS round, a.account_id, a.lane, a.rank, a.in_lane, a.funds, a.amount,
			timestamptz 'epoch' + us * interval '1 microsecond' AS at,
			(lpad(to_hex(us / 1000), 12, '0') || '7' || substr(digits, 1, 3) || '8' || substr(digits, 4, 15))::uuid AS id
		FROM (
			SELECT i, $3::bigint + i * $4::bigint AS us, md5(i::text) AS digits
				FROM generate_series($1::bigint, $2::bigint - 1) i) o
		JOIN filled_accounts a ON a.i = o.i % $5::bigint
		ORDER BY o.i)`

const ordersChunk = chunk + `,
	history AS (
		INSERT INTO order_history (order_id, number, at, from_status, to_status, reason, event_id)
		SELECT id, 2, at + interval '8 ms', 'pending', 'paid', '', md5('event' || i)::uuid FROM chunk)
	INSERT INTO orders (account_id, amount, currency, description, reference, capture, await_inventory, on_insufficient,
		id, status,
		captured, version, payment_version, fingerprint, created_at, updated_at)
	SELECT account_id, amount, 'RUB', '', '', 'automatic', false, 'reject', id, 'paid',
		amount, 2, 1, md5('fingerprint' || i)::uuid, at, at + interval '8 ms'
	FROM chunk`

// All operations have gone through the inbox, which numbers them: those that open accounts first.
const billingChunk = chunk + `,
	operation AS (
		INSERT INTO operations (id, lane, seq, operation, account_id, order_id, currency, amount, status, created_at,
			settled_at)
		SELECT id, lane, 2 * $5::bigint + i + 1, 'payment', account_id, id, 'RUB', amount, 'success', at + interval '3 ms',
			at + interval '4 ms'
		FROM chunk),
	payment AS (
		INSERT INTO payments (order_id, lane, account_id, currency, amount, capture, status, captured, refunded, version,
			created_at, updated_at)
		SELECT id, lane, account_id, 'RUB', amount, 'automatic', 'succeeded', amount, 0, 1, at + interval '4 ms',
			at + interval '4 ms'
		FROM chunk)
	INSERT INTO entries (account_id, lane, currency, number, operation_id, operation, amount, frozen, balance_after,
		frozen_after, created_at)
	SELECT e.account_id, lane, 'RUB', number, id, 'payment', e.amount, 0, balance_after, 0, at + interval '4 ms'
	FROM chunk, LATERAL (VALUES
		(account_id, round + 2, -amount, funds - amount * (round + 1)),
		(uuid '00000000-0000-0000-0000-000000000002', round * in_lane + rank, amount, amount * (round * in_lane + rank))
	) e (account_id, number, amount, balance_after)`

// billingBegin opens the accounts and funds them from the account of the outside world.
var billingBegin = []string{`
	INSERT INTO accounts (id, lane, owner, created_at) SELECT account_id, lane, 'load', opened
		FROM filled_accounts ORDER BY i`, `
	INSERT INTO operations (id, lane, seq, operation, account_id, currency, amount, status, created_at, settled_at)
	SELECT o.id, lane, 2 * i + seq, operation, account_id, currency, o.amount, 'success', opened, opened
	FROM filled_accounts, LATERAL (VALUES
		(1, account_id, 'create_account', '', 0), (2, md5('deposit' || i)::uuid, 'deposit', 'RUB', funds)
	) o (seq, id, operation, currency, amount)
	ORDER BY i, seq`, `
	INSERT INTO entries (account_id, lane, currency, number, operation_id, operation, amount, frozen, balance_after,
		frozen_after, created_at)
	SELECT e.account_id, lane, 'RUB', number, md5('deposit' || i)::uuid, 'deposit', e.amount, 0, balance_after, 0, opened
	FROM filled_accounts, LATERAL (VALUES
		(1, uuid '00000000-0000-0000-0000-000000000001', rank, -funds, -funds * rank),
		(2, account_id, 1, funds, funds)
	) e (side, account_id, number, amount, balance_after)
	ORDER BY i, side`}

// The ends get the numbers of orders ($1) and accounts ($2).
var (
	ordersEnd = []string{`SELECT setval(pg_get_serial_sequence('outbox', 'seq'), $1::bigint), $2::bigint`}

	billingEnd = []string{`
		INSERT INTO balances (account_id, lane, currency, actual, entries)
		WITH each AS (
			SELECT *, $1::bigint / $2::bigint + (i < $1::bigint % $2::bigint)::int AS orders FROM filled_accounts)
		SELECT account_id, lane, 'RUB', funds - amount * orders, 1 + orders FROM each
		UNION ALL
		SELECT '00000000-0000-0000-0000-000000000001', lane, 'RUB', -sum(funds), count(*) FROM each GROUP BY lane
		UNION ALL
		SELECT '00000000-0000-0000-0000-000000000002', lane, 'RUB', sum(amount * orders), sum(orders)
			FROM each GROUP BY lane`,
		`SELECT setval(pg_get_serial_sequence('inbox', 'seq'), 2 * $2::bigint + $1::bigint)`,
		`SELECT setval(pg_get_serial_sequence('outbox', 'seq'), $1::bigint), $2::bigint`,
	}
)
