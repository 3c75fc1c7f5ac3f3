"""Asks a server what the command line says, and prints what it answers: good ones on stdout, errors on stderr."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

from tinyfaas.exits import Exit

if TYPE_CHECKING:
    from tinyfaas.cli.client import Heard, Inquiry
    from tinyfaas.config import Mqtt

Answer = Mapping[str, Any]


def ask(args: argparse.Namespace, command: str, function: str, body: Answer) -> Answer:
    """The answer to a command, of whichever node is first; raises `Failed` where there is none.

    Of several nodes only one may have the function: that another has not is believed when all have answered.
    """
    from tinyfaas.cli.failures import NoAnswer

    unknown: Answer | None = None
    try:
        with closing(exchange(args, command, function, body, first_sign_s=args.timeout, of_all=True)) as said:
            for heard in said:
                if heard.is_answer and heard.body.get("code") != "not_found":
                    return heard.body
                unknown = heard.body if heard.is_answer else unknown
    except NoAnswer:
        if unknown is None:
            raise
    assert unknown is not None  # an exchange without any answer raises
    return unknown


def exchange(
    args: argparse.Namespace, command: str, function: str, body: Answer, *, first_sign_s: float, of_all: bool = False
) -> Generator[Heard, None, None]:
    """Send a command to the broker that the command line names; see `client.exchange`."""
    from tinyfaas.cli import client

    yield from client.exchange(*inquiry(args, command, function, body, first_sign_s=first_sign_s, of_all=of_all))


def inquiry(
    args: argparse.Namespace, command: str, function: str, body: Answer, *, first_sign_s: float, of_all: bool = False
) -> tuple[Mqtt, Inquiry]:
    """The broker's settings, and the request with all its topics. `of_all` nodes that are online, or of one."""
    from tinyfaas.cli import broker, client
    from tinyfaas.protocol import Topics

    mqtt = broker.settings(args, os.environ)
    topics = Topics(mqtt.base_topic, mqtt.response_topic)
    if command == "invoke":
        topic, answer_topic = topics.invoke_prefix + function, topics.invoke_answer(function)
    else:
        topic = topics.admin_prefix + (f"{command}/{function}" if function else command)
        answer_topic = topics.admin_answer(command, function)
    return mqtt, client.Inquiry(
        topic=topic,
        body={**body, "node": args.node} if args.node else body,
        answer_topic=answer_topic,
        error_topic=topics.error,
        event_topic=topics.event(command, function) if command == "upload" else "",
        nodes_topic=topics.node("+") if of_all else "",
        timeout_s=args.timeout,
        first_sign_s=first_sign_s,
    )


def conclude(args: argparse.Namespace, answer: Answer, text: Callable[[Answer], str]) -> Exit:
    """Print an answer: a good one on stdout; of an error the one line and what stands behind it on stderr."""
    if args.json:
        print_json(answer)
    elif answer.get("status") != "error":
        print(text(answer))
    return complain_of(answer) if answer.get("status") == "error" else Exit.OK


def complain_of(answer: Answer) -> Exit:
    """Say what an error answer says, on stderr."""
    from tinyfaas.cli import show

    status = complain(f"{show.failure(answer)}{show.hint(answer)}")
    if behind := show.behind(answer):
        print(behind, file=sys.stderr)
    return status


def complain(text: str, status: Exit = Exit.FAILED) -> Exit:
    """Say what went wrong in one line on stderr."""
    print(f"tinyfaas: {' '.join(text.split())}", file=sys.stderr)
    return status


def print_json(value: object) -> None:
    """Print a document on one line."""
    print(to_json(value))


def to_json(value: object) -> str:
    """JSON as people read it."""
    return json.dumps(value, ensure_ascii=False)
