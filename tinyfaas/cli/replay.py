"""Runs recorded invocations again, on the code of a folder or a version of this device, and compares what comes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinyfaas.cli import answers, folder, show, store
from tinyfaas.cli import records as words
from tinyfaas.cli.failures import Unusable
from tinyfaas.cli.looking import query_of
from tinyfaas.cli.terminal import GREEN, RED, coloured
from tinyfaas.cli.trial import Printed, build, running
from tinyfaas.exits import Exit

_NEVER_RAN = ("expired", "overloaded", "unavailable", "forbidden", "not_found", "internal")

Record = Mapping[str, Any]


def run(args: argparse.Namespace) -> int:
    """Fetch the records, run them in their order, and print what is the same and what is not."""
    at, body = _code(args)
    answer = answers.ask(args, "logs", args.function, query_of(args))
    if answer.get("status") == "error":
        return answers.conclude(args, answer, str)
    records = answer.get("logs", [])
    chosen = [record for record in records if not _why_not(record)]
    skipped = [{"id": record.get("id"), "reason": _why_not(record)} for record in records if _why_not(record)]
    # What is printed is of no matter here; a missing sandbox is.
    printed = Printed(as_it_comes=False)
    with running(args.config, at, printed.hear) as local:
        if (refusal := build(local, args.function, body)) is not None:
            return answers.conclude(args, {"function": args.function, **refusal}, str)
        calls = [_compared(record, local.call(args.function, _request(record))) for record in chosen]
    different = sum(not each["same"] for each in calls)
    counts = {"same": len(calls) - different, "different": different, "skipped": len(skipped)}
    if args.json:
        answers.print_json({"function": args.function, **counts, "calls": calls, "skips": skipped})
    else:
        print(_table(calls))
        for each in skipped:
            print(show.printable(f"{each['id']}: not run: {each['reason']}"), file=sys.stderr)
        print(", ".join(f"{count} {name}" for name, count in counts.items()), file=sys.stderr)
    return Exit.FAILED if different else Exit.OK


def _code(args: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """Where the environment is kept, and the keys of an upload."""
    if (args.folder is None) == (args.version is None):
        raise Unusable("replay on what? Name either a folder, or --version N of this device")
    if args.folder is not None:
        return args.folder, folder.upload_of(args.folder)
    kept = store.here(args.config)
    return kept.home(args.function), kept.version(args.function, args.version).upload


def _why_not(record: Record) -> str:
    """Why a record can't be run again; empty if it can."""
    if record.get("cut") or not isinstance(record.get("args", []), list):
        return "its arguments or result were cut in the history (history.cut_bytes)"
    if record.get("code") in _NEVER_RAN:
        return f"it never ran: {record['code']}"
    return ""


def _request(record: Record) -> dict[str, Any]:
    return {"args": record.get("args", []), "kwargs": record.get("kwargs", {})}


def _compared(before: Record, now: Record) -> dict[str, Any]:
    return {"id": before.get("id"), "same": _essence(before) == _essence(now), **_request(before),
            "before": _told(before), "now": _told(now)}  # fmt: skip


def _essence(record: Record) -> tuple[Any, ...]:
    """What has to be the same: the result; or the kind of error and what it says, but not where in the code."""
    return tuple(record.get(key) for key in ("status", "result", "code", "error"))


def _told(record: Record) -> dict[str, Any]:
    keys = ("status", "result", "code", "error", "duration_ms")
    return {key: record[key] for key in keys if key in record}


def _table(calls: list[dict[str, Any]]) -> str:
    if not calls:
        return "no records to run"
    head = ["", "ID", "CALL", "BEFORE", "", "NOW", ""]
    rows = [
        [
            "same" if each["same"] else "DIFFERENT",
            str(each["id"]),
            words.called("", each),
            words.outcome(each["before"]),
            words.took(each["before"]),
            "the same" if each["same"] else words.outcome(each["now"]),
            words.took(each["now"]),
        ]
        for each in calls
    ]
    lines = show.table([head, *rows]).splitlines()
    marks = [GREEN if each["same"] else RED for each in calls]
    return "\n".join([lines[0], *(coloured(line, mark) for line, mark in zip(lines[1:], marks, strict=True))])
