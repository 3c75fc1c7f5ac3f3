"""What each command does. All return an exit status; what went wrong is one line on stderr."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from tinyfaas.cli import arguments
from tinyfaas.cli.failures import Failed
from tinyfaas.errors import ConfigError
from tinyfaas.exits import Exit

if TYPE_CHECKING:
    from tinyfaas.cli.client import Heard

Answer = Mapping[str, Any]


def run(argv: Sequence[str]) -> int:
    """Run one command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a locale without an ä is no reason to fail
    args = arguments.parse(argv)
    try:
        return COMMANDS[args.command](args)
    except Failed as failed:
        return _complain(str(failed), failed.status)
    except ConfigError as error:
        return _complain(str(error), Exit.CONFIG)


def serve(args: argparse.Namespace) -> int:
    """Run the server until it is told to stop."""
    from tinyfaas import daemon

    return daemon.serve(args.config)


def config(args: argparse.Namespace) -> int:
    """Print the server's settings, secrets masked, and where each comes from."""
    from tinyfaas import config as configuration
    from tinyfaas.cli import show
    from tinyfaas.reload import merged

    try:
        settings = configuration.load(args.config, os.environ)
        before = configuration.load(args.against, os.environ) if args.against else None
    except OSError as error:  # a folder that hides whether the file is there
        raise ConfigError(f"{error.filename}: {error.strerror}") from None
    if before is not None:
        changed = merged(before, settings)
        found = {"reload": changed.applied, "restart": changed.restart}
        if args.json:
            _print_json(found)
        else:
            print("\n".join(f"{key}: {' '.join(names) or 'nothing'}" for key, names in found.items()))
        return Exit.OK
    effective = list(configuration.effective(settings))
    if args.json:
        _print_json({key: {"value": value, "from": origin} for key, value, origin in effective})
    else:
        print(show.settings(effective))
    return Exit.OK


def deploy(args: argparse.Namespace) -> int:
    """Upload a function; wait until it serves, or until the server has taken it."""
    from tinyfaas.cli import folder, show, signature
    from tinyfaas.cli.progress import Progress, width_of

    name = args.name or folder.name_of(args.folder)
    body = folder.upload_of(args.folder)
    if args.if_changed and (current := _current(args, name, folder.digest_of(body))) is not None:
        return _conclude(args, {"status": "ok", "function": name, "version": current, "changed": False}, show.unchanged)
    if args.sign:
        body = signature.signed(body, name, args.node or "", args.sign, args.timeout)
    progress = Progress(sys.stderr, width_of(sys.stderr))
    try:
        # The server says at once that it has taken an upload, however long the build takes then.
        with closing(_exchange(args, "upload", name, body, first_sign_s=arguments.QUICK_S)) as said:
            for heard in said:
                if heard.is_answer:
                    break
                if not args.wait:
                    return _conclude(args, heard.body, show.taken)
                progress.show(heard.body)
    finally:
        progress.end()
    return _conclude(args, heard.body, show.deployed)


def invoke(args: argparse.Namespace) -> int:
    """Run a function and print its result."""
    # The server does not start what nobody waits for any more.
    body = {"args": args.arguments, "kwargs": dict(args.kwarg), "deadline_ms": round(args.timeout * 1000)}
    return _conclude(args, _ask(args, "invoke", args.function, body), lambda answer: _json(answer.get("result")))


def administer(args: argparse.Namespace) -> int:
    """Any command that is one question and one answer."""
    from tinyfaas.cli import show

    shown = {
        "list": show.functions,
        "info": show.info,
        "logs": show.records,
        "status": show.status,
        "delete": show.deleted,
        "rollback": show.rolled_back,
    }
    body = _logs_body(args) if args.command == "logs" else {}
    answer = _ask(args, args.command, getattr(args, "function", ""), body)
    return _conclude(args, answer, shown[args.command])


def doctor(args: argparse.Namespace) -> int:
    """Check this device, and print each finding as soon as it is there."""
    from tinyfaas.cli.doctor import report, service
    from tinyfaas.cli.doctor.checks import CHECKS
    from tinyfaas.cli.doctor.finding import State

    device = service.here(args, os.environ)
    described, found = device.described(), {}
    width = max(len(check.name) for check in CHECKS)
    coloured = report.takes_colour(sys.stdout)
    if not args.json:
        print(f"{report.heading(described)}\n")
    for check in CHECKS:
        found[check.name] = check.make(device)
        if not args.json:
            print(report.lines(check.name, found[check.name], width, coloured=coloured), flush=True)
    if args.json:
        _print_json(report.document(described, found))
    else:
        print(f"\n{report.summary(found.values())}")
    return Exit.FAILED if report.worst(found.values()) is State.FAIL else Exit.OK


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "serve": serve,
    "config": config,
    "doctor": doctor,
    "deploy": deploy,
    "invoke": invoke,
    **dict.fromkeys(("list", "info", "logs", "status", "delete", "rollback"), administer),
}


def _logs_body(args: argparse.Namespace) -> dict[str, Any]:
    body = {"limit": args.limit, "status": "error" if args.failed else None, "since": args.since}
    return {key: value for key, value in body.items() if value is not None}


def _current(args: argparse.Namespace, function: str, digest: str) -> int | None:
    """The number of a function's current version, where that is the upload of this digest."""
    info = _ask(args, "info", function, {})
    versions = {version["version"]: version["digest"] for version in info.get("versions", ())}
    current = info.get("version")
    return current if versions.get(current) == digest else None


def _ask(args: argparse.Namespace, command: str, function: str, body: Answer) -> Answer:
    with closing(_exchange(args, command, function, body, first_sign_s=args.timeout)) as said:
        return next(heard.body for heard in said if heard.is_answer)


def _exchange(
    args: argparse.Namespace, command: str, function: str, body: Answer, *, first_sign_s: float
) -> Generator[Heard, None, None]:
    """Send a command to the broker that the command line names; see `client.exchange`."""
    from tinyfaas.cli import broker, client
    from tinyfaas.protocol import Topics

    mqtt = broker.settings(args, os.environ)
    topics = Topics(mqtt.base_topic, mqtt.response_topic)
    if command == "invoke":
        topic, answer_topic = topics.invoke_prefix + function, topics.invoke_answer(function)
    else:
        topic = topics.admin_prefix + (f"{command}/{function}" if function else command)
        answer_topic = topics.admin_answer(command, function)
    inquiry = client.Inquiry(
        topic=topic,
        body={**body, "node": args.node} if args.node else body,
        answer_topic=answer_topic,
        error_topic=topics.error,
        event_topic=topics.event(command, function) if command == "upload" else "",
        timeout_s=args.timeout,
        first_sign_s=first_sign_s,
    )
    yield from client.exchange(mqtt, inquiry)


def _conclude(args: argparse.Namespace, answer: Answer, text: Callable[[Answer], str]) -> int:
    """Print an answer: a good one on stdout; of an error the one line and what stands behind it on stderr."""
    from tinyfaas.cli import show

    failed = answer.get("status") == "error"
    if args.json:
        _print_json(answer)
    elif not failed:
        print(text(answer))
    if not failed:
        return Exit.OK
    status = _complain(show.failure(answer))
    if behind := show.behind(answer):
        print(behind, file=sys.stderr)
    return status


def _complain(text: str, status: Exit = Exit.FAILED) -> Exit:
    print(f"tinyfaas: {' '.join(text.split())}", file=sys.stderr)
    return status


def _print_json(value: object) -> None:
    print(_json(value))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
