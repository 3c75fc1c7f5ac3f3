"""Runs a function of a server: invoke prints its result; call --async leaves the request with the broker."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from tinyfaas.cli import answers, show
from tinyfaas.cli.failures import Unusable
from tinyfaas.cli.words import strict_json
from tinyfaas.exits import Exit

_STDIN = "-"


def run(args: argparse.Namespace) -> int:
    """Send the request; print the answer's result, or the request's id where nobody waits."""
    # The server does not start what nobody waits for any more.
    body = {**called_with(args), "deadline_ms": round(args.timeout * 1000)}
    if args.command == "call" and not args.wait:
        return _leave(args, body)
    answer = answers.ask(args, "invoke", args.function, body)
    return answers.conclude(args, answer, lambda answer: answers.to_json(answer.get("result")))


def called_with(args: argparse.Namespace) -> dict[str, Any]:
    """The `args` and `kwargs` of a request, from the command line or from stdin; raises `Unusable`."""
    given, kwargs = args.arguments, dict(args.kwarg)
    if given == [_STDIN]:
        given, more = _from_stdin()
        kwargs = {**more, **kwargs}
    return {"args": given, "kwargs": kwargs}


def _leave(args: argparse.Namespace, body: dict[str, Any]) -> int:
    """Send it and go; what comes of it stands in the function's history."""
    from tinyfaas.cli import client

    settings, inquiry = answers.inquiry(args, "invoke", args.function, body, first_sign_s=args.timeout)
    request_id = client.send(settings, inquiry)
    if args.json:
        answers.print_json({"request_id": request_id, "function": args.function, "node": args.node})
    else:
        print(request_id)
        if sys.stderr.isatty():
            print(show.printable(f"its answer: tinyfaas logs {args.function} --request {request_id}"), file=sys.stderr)
    return Exit.OK


def _from_stdin() -> tuple[list[Any], dict[str, Any]]:
    try:
        said = strict_json(sys.stdin.read())
    except (ValueError, RecursionError) as error:
        raise Unusable(f"stdin: is not JSON: {error}") from None
    if isinstance(said, list):
        return said, {}
    if isinstance(said, dict) and said and said.keys() <= {"args", "kwargs"}:
        args, kwargs = said.get("args", []), said.get("kwargs", {})
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            raise Unusable('stdin: "args" must be an array, and "kwargs" an object')
        return args, kwargs
    return [said], {}
