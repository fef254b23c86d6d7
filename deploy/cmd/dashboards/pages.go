package main

func figure(title, about, unit string, bad float64, expr string) panel {
	return panel{title: title, about: about, unit: unit, bad: new(bad), queries: []query{{expr, ""}}}
}

func graph(title, about, unit string, queries ...query) panel {
	return panel{title: title, about: about, unit: unit, queries: queries}
}

// quantiles of a histogram, by a label that may be "".
func quantiles(histogram, selector string) []query {
	of := func(q string) string {
		return "histogram_quantile(" + q + ", sum by (le) (rate(" + histogram + "_bucket{" + selector + "}[$__rate_interval])))"
	}
	return []query{{of("0.5"), "half"}, {of("0.99"), "99 %"}, {of("0.999"), "99.9 %"}}
}

// pages are all dashboards. The first one is for whoever was woken: figures are red where an alert fires, or will.
var pages = []page{
	{"altyn-money", "Does money move?", "Orders come in, are settled, and the books are right. Red is what an alert is about.", []panel{
		figure("Orders placed", "Accepted orders per second.", "ops", 1e9,
			`sum(rate(altyn_orders_placed_total[$__rate_interval]))`),
		figure("Orders answered", "Orders whose payment was decided, or waits for goods or money.", "ops", 1e9,
			`sum(rate(altyn_orders_answered_total[$__rate_interval]))`),
		figure("Within a second", "Orders that need not wait, decided later than within a second. 0.1 % is the objective.",
			"percentunit", 0.001, `clamp_min(altyn:orders_late:ratio_rate5m, 0)`),
		figure("Requests that fail", "Requests at the gateway answered 5xx. 0.05 % is the objective.", "percentunit", 0.0005,
			`altyn:requests_failed:ratio_rate5m or vector(0)`),
		figure("Orders that stand still", "Longer than they should take, without a reason to wait.", "short", 1,
			`max(altyn_orders_overdue)`),
		figure("Alerts", "Firing now.", "short", 1, `count(ALERTS{alertstate="firing"}) or vector(0)`),
		figure("Parts down", "Instances that do not answer.", "short", 1,
			`count(up{job=~"gateway|orders|payments"} == 0) or vector(0)`),
		figure("Checks that fail", "Of /readyz: database, broker, keys, the other services.", "short", 1,
			`count(altyn_check_ok == 0) or vector(0)`),
		figure("Waits to be published", "Age of the oldest message in an outbox.", "s", 30, `max(altyn_outbox_oldest_seconds)`),
		figure("Waits to be settled", "Age of the oldest message that nothing holds up.", "s", 30,
			`max(altyn_inbox_ready_oldest_seconds)`),
		figure("Parked", "Accounts, messages and events that wait for somebody.", "short", 1,
			`max(altyn_inbox_parked_accounts) + sum(max by (job) (altyn_outbox_parked_messages)) + max(altyn_orders_parked_events)`),
		figure("Books", "What the audit has found wrong.", "short", 1, `sum(max by (job, rule) (altyn_audit_findings))`),
		graph("Orders", "If the lines part, see Queues.", "ops",
			query{`sum(rate(altyn_orders_placed_total[$__rate_interval]))`, "placed"},
			query{`sum(rate(altyn_orders_answered_total[$__rate_interval]))`, "answered"}),
		graph("What became of them", "", "ops",
			query{`sum by (status) (rate(altyn_orders_status_total[$__rate_interval]))`, "{{status}}"}),
		graph("From acceptance to decision", "Orders that need not wait.", "s",
			quantiles("altyn_orders_settled_seconds", `waited="false"`)...),
		graph("Operations", "What moved money, of orders and of others.", "ops",
			query{`sum by (operation, status) (rate(altyn_operations_total[$__rate_interval]))`, "{{operation}} {{status}}"}),
		graph("Requests", "At the gateway, by what they were answered.", "reqps",
			query{`sum by (code) (rate(altyn_http_requests_total{job="gateway"}[$__rate_interval]))`, "{{code}}"}),
		graph("Queues", "What waits at each step of an order's way.", "short", queues...),
	}},
	service("altyn-gateway", "gateway", "The door: requests and their times, by route."),
	service("altyn-orders", "orders", "Places orders, and keeps their status in step with their payments.",
		graph("Orders", "", "ops",
			query{`sum(rate(altyn_orders_placed_total[$__rate_interval]))`, "placed"},
			query{`sum(rate(altyn_orders_cancellations_total[$__rate_interval]))`, "cancellations"},
			query{`sum(rate(altyn_orders_answered_total[$__rate_interval]))`, "answered"}),
		graph("Statuses", "", "ops", query{`sum by (status) (rate(altyn_orders_status_total[$__rate_interval]))`, "{{status}}"}),
		graph("Decided, that need not wait", "", "s", quantiles("altyn_orders_settled_seconds", `waited="false"`)...),
		graph("Stand still", "Without a reason.", "short",
			query{`max(altyn_orders_overdue)`, "orders"}, query{`max(altyn_orders_parked_events)`, "parked events"}),
		graph("Announced again", "And those that went on after it.", "ops",
			query{`sum(rate(altyn_orders_healed_total[$__rate_interval]))`, "healed"},
			query{`sum(rate(altyn_orders_announced_again_total[$__rate_interval]))`, "announced again"}),
		graph("Streams", "Open ones of an order's status.", "short", query{`sum(altyn_orders_streams)`, "streams"})),
	service("altyn-payments", "payments", "The ledger: what is settled, in which batches, and how fast.",
		graph("Operations", "", "ops",
			query{`sum by (operation, status) (rate(altyn_operations_total[$__rate_interval]))`, "{{operation}} {{status}}"}),
		graph("From acceptance to settlement", "", "s", quantiles("altyn_operation_seconds", "")...),
		graph("Commands", "Of the broker, by the code of their reply.", "ops",
			query{`sum by (operation, code) (rate(altyn_commands_total[$__rate_interval]))`, "{{operation}} {{code}}"}),
		graph("Batches", "Messages settled in one transaction.", "short",
			query{`sum(rate(altyn_inbox_batch_size_sum[$__rate_interval])) / sum(rate(altyn_inbox_batch_size_count[$__rate_interval]))`,
				"messages"}),
		graph("Time of a batch", "", "s", quantiles("altyn_inbox_batch_seconds", "")...),
		graph("Inventory", "", "ops",
			query{`sum by (outcome) (rate(altyn_inventory_messages_total[$__rate_interval]))`, "{{outcome}}"}),
		graph("Audit", "Rows looked at.", "ops", query{`sum by (job) (rate(altyn_audit_rows_total[$__rate_interval]))`, "{{job}}"})),
	{"altyn-queues", "Queues", "In the order in which an order goes through them. The first one that grows is where to look.", []panel{
		graph("1. Outbox of orders", "Messages, and the age of the oldest.", "short",
			query{`max(altyn_outbox_messages{job="orders"})`, "messages"},
			query{`max(altyn_outbox_oldest_seconds{job="orders"})`, "seconds"},
			query{`max(altyn_outbox_waiting_messages{job="orders"})`, "wait for their partition"}),
		graph("2. Topic orders", "Messages that payments has not handled.", "short",
			query{`sum by (partition) (altyn_kafka_consumer_lag{topic="orders"})`, "partition {{partition}}"}),
		graph("3. Inbox of payments", "Those that nothing holds up have an age.", "short",
			query{`max(altyn_inbox_messages)`, "messages"}, query{`max(altyn_inbox_ready_oldest_seconds)`, "seconds"}),
		graph("4. Outbox of payments", "Messages, and the age of the oldest.", "short",
			query{`max(altyn_outbox_messages{job="payments"})`, "messages"},
			query{`max(altyn_outbox_oldest_seconds{job="payments"})`, "seconds"},
			query{`max(altyn_outbox_waiting_messages{job="payments"})`, "wait for their partition"}),
		graph("5. Topic payments", "Messages that orders has not handled.", "short",
			query{`sum by (partition) (altyn_kafka_consumer_lag{topic="payments"})`, "partition {{partition}}"}),
		graph("Other topics", "", "short",
			query{`sum by (group, topic) (altyn_kafka_consumer_lag{topic!~"orders|payments"})`, "{{group}} {{topic}}"}),
		graph("Stopped and parked", "", "short",
			query{`max(altyn_inbox_stopped_accounts)`, "stopped accounts"}, query{`max(altyn_inbox_parked_accounts)`, "parked accounts"},
			query{`max by (job) (altyn_outbox_parked_messages)`, "outbox of {{job}}"}, query{`max(altyn_orders_parked_events)`, "events"}),
		graph("Dead letters", "Written per second.", "ops",
			query{`sum by (topic) (rate(altyn_kafka_produced_total{topic=~".+[.]dlq"}[$__rate_interval]))`, "{{topic}}"}),
		graph("Full lanes", "Of 64, whose new requests are refused.", "short",
			query{`max by (job) (altyn_outbox_full_lanes)`, "{{job}}"}),
		graph("Published at a time", "", "short",
			query{`sum by (job) (rate(altyn_outbox_batch_size_sum[$__rate_interval])) / sum by (job) (rate(altyn_outbox_batch_size_count[$__rate_interval]))`,
				"{{job}}"}),
		graph("Waiting for their order", "Messages of the inventory.", "short", query{`max(altyn_inventory_waiting)`, "messages"}),
	}},
	{"altyn-servers", "PostgreSQL and Kafka", "What the services see of both.", []panel{
		graph("Size of the databases", "", "bytes", query{`max by (job) (altyn_postgres_database_bytes)`, "{{job}}"}),
		graph("Connections in use", "", "short", query{`go_sql_in_use_connections`, "{{instance}}"}),
		graph("Waiting for a connection", "Callers on average.", "short",
			query{`rate(go_sql_wait_duration_seconds_total[$__rate_interval])`, "{{instance}}"}),
		graph("Longest wait for a lock", "", "s", query{`max by (job) (altyn_postgres_lock_wait_seconds)`, "{{job}}"}),
		graph("Oldest transaction", "", "s", query{`max by (job) (altyn_postgres_transaction_seconds)`, "{{job}}"}),
		graph("Clocks", "Ahead of that of Prometheus.", "s",
			query{`altyn_clock_seconds - timestamp(altyn_clock_seconds)`, "{{instance}}"},
			query{`max by (job) (altyn_postgres_clock_seconds - timestamp(altyn_postgres_clock_seconds))`, "database of {{job}}"}),
		graph("Produced", "", "ops", query{`sum by (topic) (rate(altyn_kafka_produced_total[$__rate_interval]))`, "{{topic}}"}),
		graph("Consumed", "", "ops",
			query{`sum by (group, topic) (rate(altyn_kafka_consumed_total[$__rate_interval]))`, "{{group}} {{topic}}"}),
		graph("Whether they answer", "1 or 0, by the services' checks.", "short",
			query{`min by (job, check) (altyn_check_ok)`, "{{job}}: {{check}}"}),
	}},
}

var queues = []query{
	{`max(altyn_outbox_messages{job="orders"})`, "1. outbox of orders"},
	{`sum(altyn_kafka_consumer_lag{topic="orders"})`, "2. topic orders"},
	{`max(altyn_inbox_messages)`, "3. inbox of payments"},
	{`max(altyn_outbox_messages{job="payments"})`, "4. outbox of payments"},
	{`sum(altyn_kafka_consumer_lag{topic="payments"})`, "5. topic payments"},
}

// service is the dashboard of a service: its own panels, then what all have.
func service(uid, job, about string, panels ...panel) page {
	of := `job="` + job + `"`
	return page{uid, "Service " + job, about, append(panels,
		graph("Requests", "By what they were answered.", "reqps",
			query{`sum by (code) (rate(altyn_http_requests_total{` + of + `}[$__rate_interval]))`, "{{code}}"}),
		graph("Requests by route", "", "reqps",
			query{`sum by (method, route) (rate(altyn_http_requests_total{` + of + `}[$__rate_interval]))`, "{{method}} {{route}}"}),
		graph("Times of requests", "Streams and ?wait= included.", "s",
			quantiles("altyn_http_request_duration_seconds", of)...),
		graph("Processor", "Cores in use.", "short",
			query{`rate(process_cpu_seconds_total{` + of + `}[$__rate_interval])`, "{{instance}}"}),
		graph("Memory", "", "bytes", query{`process_resident_memory_bytes{` + of + `}`, "{{instance}}"}),
		graph("Goroutines", "", "short", query{`go_goroutines{` + of + `}`, "{{instance}}"}),
		graph("Versions", "", "short", query{`count by (version, revision) (altyn_build_info{` + of + `})`, "{{version}} {{revision}}"}),
	)}
}
