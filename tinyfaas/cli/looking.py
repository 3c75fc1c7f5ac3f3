"""The commands that are one question and one answer: list, info, logs, status, delete, rollback, redrive."""

from __future__ import annotations

import argparse
from typing import Any

from tinyfaas.cli import records, show
from tinyfaas.cli.answers import ask, conclude
from tinyfaas.exits import Exit

_ENOUGH = 1_000  # of records, to find one request among

_SHOWN = {
    "list": show.functions,
    "info": show.info,
    "logs": records.records,
    "status": show.status,
    "delete": show.deleted,
    "rollback": show.rolled_back,
    "redrive": show.redriven,
}


def run(args: argparse.Namespace) -> int:
    """Ask, and print the answer."""
    if args.command == "logs":
        return logs(args)
    answer = ask(args, args.command, getattr(args, "function", ""), {})
    return conclude(args, answer, _SHOWN[args.command])


def logs(args: argparse.Namespace) -> int:
    """A function's records; those to come too, where they are to be followed."""
    query = query_of(args)
    if args.follow:
        from tinyfaas.cli import follow

        try:
            follow.run(args, query)
        except KeyboardInterrupt:
            return Exit.OK
    if not args.request:
        return conclude(args, ask(args, "logs", args.function, query), records.records)
    answer = ask(args, "logs", args.function, {"limit": _ENOUGH, **query})
    if answer.get("status") != "error":
        found = [record for record in answer.get("logs", ()) if record.get("request_id") == args.request]
        answer = {**answer, "logs": found}
    return conclude(args, answer, records.whole_records)


def query_of(args: argparse.Namespace) -> dict[str, Any]:
    """The keys of a `logs` request."""
    body = {"limit": args.limit, "status": "error" if args.failed else None, "since": args.since}
    return {key: value for key, value in body.items() if value is not None}
