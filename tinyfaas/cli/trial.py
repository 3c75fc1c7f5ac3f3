"""Runs a function on this computer exactly as the server would: its environment, its sandbox, its limits, one call."""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tinyfaas import config as configuration
from tinyfaas.cli import answers, folder, show
from tinyfaas.cli.calling import called_with
from tinyfaas.cli.failures import Failed, Unusable
from tinyfaas.cli.local import Event, Local, home_of
from tinyfaas.cli.progress import Progress
from tinyfaas.cli.terminal import DIM, coloured, width_of
from tinyfaas.cli.words import strict_json
from tinyfaas.errors import AlreadyRunning, Failure
from tinyfaas.exits import Exit
from tinyfaas.protocol import error_keys

EXAMPLE = "example.json"


def run(args: argparse.Namespace) -> int:
    """Make the call that the command line says, and the folder's example; the exit status tells of both."""
    name, body = args.name or folder.name_of(args.folder), folder.upload_of(args.folder)
    calls = _calls(args)
    printed = Printed(as_it_comes=not args.json)
    with running(args.config, args.folder, printed.hear) as local:
        if (refusal := build(local, name, body)) is not None:
            return answers.conclude(args, {"function": name, **refusal}, str)
        said = [_judged(local.call(name, _request(call)), call, printed.take()) for call in calls]
    if args.json:
        answers.print_json({"function": name, "sandbox": local.sandbox.mechanism, "calls": said})
    else:
        for each in said:
            _show(each)
    return Exit.OK if all(each["ok"] for each in said) else Exit.FAILED


class Printed:
    """What the function prints, and what else of the server's log its author should know."""

    def __init__(self, *, as_it_comes: bool) -> None:
        self._as_it_comes = as_it_comes
        self._lines: list[dict[str, str]] = []
        self._changing = threading.Lock()

    def hear(self, event: Event) -> None:
        """Take a record of the log."""
        if event.get("event") == "function_output":
            self._add(str(event.get("stream")), str(event.get("line")))
        elif event.get("event") == "function_log":
            fields = "".join(f" {name}={value}" for name, value in event.get("fields", {}).items())
            self._add(str(event.get("level", "log")), f"{event.get('line')}{fields}")
        elif event.get("event") == "published":
            self._add("published", f"{event.get('topic')} {event.get('payload')}")
        elif event.get("event") == "function_output_dropped":
            self._add("note", f"{event.get('bytes')} bytes more were printed than max_output_bytes or the log allows")
        elif event.get("event") == "no_sandbox":
            self._add("note", f"no sandbox here: {event.get('reason')}")

    def take(self) -> list[dict[str, str]]:
        """What came since this was last asked."""
        with self._changing:
            lines, self._lines = self._lines, []
        return lines

    def _add(self, stream: str, line: str) -> None:
        with self._changing:
            self._lines.append({"stream": stream, "line": line})
        if self._as_it_comes:
            print(f"{coloured(f'{stream}:', DIM, sys.stderr)} {show.printable(line)}", file=sys.stderr, flush=True)


@contextmanager
def running(config_file: Path | None, at: Path, on_event: Callable[[Event], None]) -> Iterator[Local]:
    """A local server for the function in the folder `at`; raises `ConfigError`, and `Failed` if it can't be."""
    config = configuration.load(config_file, os.environ)
    try:
        with Local(config, home_of(at), on_event) as local:
            if local.sandbox.missing and os.geteuid() == 0:
                raise Failed("not as root without a sandbox: the function could write whatever root owns")
            if local.sandbox.missing:
                on_event({"event": "no_sandbox", "reason": local.sandbox.missing})
            yield local
    except AlreadyRunning:
        raise Failed(f"{at}: is being run already by another tinyfaas test or replay") from None
    except OSError as error:
        raise Failed(f"{error.filename or at}: {error.strerror or error}") from None


def build(local: Local, name: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
    """Build the function, with progress on stderr; the keys of an error answer if that fails."""
    progress, began_s = Progress(sys.stderr, width_of(sys.stderr)), time.monotonic()

    def report(phase: str, line: str) -> None:
        if width_of(sys.stderr):
            elapsed = {"elapsed_s": time.monotonic() - began_s, "line": line}
            progress.show({"function": name, "phase": phase, **elapsed})

    try:
        local.upload(name, body, report)
    except Failure as failure:
        return error_keys(failure)
    finally:
        progress.end()
    return None


def _calls(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The calls to make: the command line's, if it has arguments or there is no example; then the example."""
    example = _example(args.folder / EXAMPLE)
    own = called_with(args)
    calls = [own] if own["args"] or own["kwargs"] or example is None else []
    return calls + ([example] if example is not None else [])


def _request(call: Mapping[str, Any]) -> dict[str, Any]:
    return {"args": call["args"], "kwargs": call["kwargs"]}


def _example(file: Path) -> dict[str, Any] | None:
    try:
        said = strict_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unusable(f"{file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise Unusable(f"{file}: is not JSON: {error}") from None
    if not isinstance(said, dict):
        raise Unusable(f'{file}: must be an object such as {{"args": [], "kwargs": {{}}, "result": null}}')
    args, kwargs = said.get("args", []), said.get("kwargs", {})
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise Unusable(f'{file}: "args" must be an array, and "kwargs" an object')
    wanted = {"result": said["result"]} if "result" in said else {}
    return {"args": args, "kwargs": kwargs, "example": True, **wanted}


def _judged(answer: Mapping[str, Any], call: Mapping[str, Any], output: list[dict[str, str]]) -> dict[str, Any]:
    """What came of a call: the answer, what was printed, and whether that is as it should be."""
    ok = answer.get("status") != "error" and call.get("result", answer.get("result")) == answer.get("result")
    expected = {"expected": call["result"]} if "result" in call and not ok else {}
    of_example = bool(call.get("example"))
    return {"ok": ok, "example": of_example, "args": call["args"], "kwargs": call["kwargs"],
            "answer": dict(answer), "output": output, **expected}  # fmt: skip


def _show(said: Mapping[str, Any]) -> None:
    answer = said["answer"]
    which = f"{EXAMPLE}: " if said["example"] else ""
    if answer.get("status") == "error":
        answers.complain(which + show.failure(answer))
        if behind := show.behind(answer):
            print(behind, file=sys.stderr)
    else:
        print(json.dumps(answer.get("result"), ensure_ascii=False), flush=True)
        if not said["ok"]:
            answers.complain(f"{which}{json.dumps(said['expected'], ensure_ascii=False)} was expected")
    cold = ", cold" if answer.get("cold") else ""
    took = show.duration(answer.get("duration_ms", 0) / 1000)
    print(coloured(show.printable(f"{which}{took}{cold}"), DIM, sys.stderr), file=sys.stderr)
