"""Publishes what a simulated house of sensors says, and tells at its end exactly what it sent. See scripts/sensors."""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import sys
import time
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.reasoncodes import ReasonCode

from scripts.simulator.house import BEGIN, HOUR_S, Message, house
from scripts.simulator.tally import Tally
from tinyfaas.cli import broker, parser, words
from tinyfaas.cli.answers import complain
from tinyfaas.cli.failures import Failed, Unreachable
from tinyfaas.cli.line import Line
from tinyfaas.cli.terminal import CLEAR_LINE, width_of
from tinyfaas.errors import ConfigError
from tinyfaas.exits import Exit

MOST_OPEN = 200  # messages at QoS 1 that the broker has not confirmed
CONNECT_S, CONFIRM_S = 10.0, 60.0
SHOW_S = 0.1


class Wire(Line):
    """A connection that publishes as sensors do."""

    refused = 0

    def send(self, message: Message) -> None:
        """Publish; waits while too much is unconfirmed. Raises `Unreachable`."""
        self.confirmed(MOST_OPEN - 1)
        sent = self._client.publish(message.topic, message.payload, message.qos, message.retain)
        if message.qos:
            self._open.add(sent.mid)

    def confirmed(self, but: int = 0) -> None:
        """Wait until the broker has confirmed everything but so many; raises `Unreachable`."""
        if not self.wait(lambda: len(self._open) <= but, time.monotonic() + CONFIRM_S):
            raise Unreachable(f"the broker at {self.where} confirms nothing")

    def rest(self, until_s: float) -> None:
        """Keep the connection alive until then, by the monotonic clock."""
        self.wait(lambda: False, until_s)

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self._open: set[int] = set()

    def _on_publish(self, _client: Client, _data: Any, mid: int, reason: ReasonCode, _properties: Any) -> None:
        self._open.discard(mid)
        self.refused += reason.is_failure


class Picture:
    """One line that tells how far it is, on a terminal; nothing elsewhere."""

    def __init__(self) -> None:
        self._width = width_of(sys.stderr)
        self._shown_s = 0.0

    def show(self, tally: Tally, celsius: dict[str, float]) -> None:
        """Draw it anew, a few times a second."""
        now_s = time.monotonic()
        if not self._width or now_s - self._shown_s < SHOW_S:
            return
        self._shown_s = now_s
        days, hours = divmod(tally.until_s / HOUR_S, 24)
        rooms = "  ".join(f"{room} {degrees:.1f}{' !' if degrees > 30 else ''}" for room, degrees in celsius.items())
        line = f"day {days + 1:.0f} {int(hours):02}:{int(hours % 1 * 60):02}  {tally.sent.total()} sent  {rooms}"
        print(f"{CLEAR_LINE}{line[: self._width]}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Make room for what is printed next."""
        if self._width:
            print(CLEAR_LINE, end="", file=sys.stderr, flush=True)


def main(argv: list[str]) -> int:
    """Publish until the time or the count is up, or Ctrl-C; returns an exit status."""
    args = grammar().parse_args(argv)
    tally, wire = Tally(), None
    try:
        wire = Wire(broker.settings(args, os.environ))
        wire.connect(time.monotonic() + CONNECT_S)
        status = play(args, wire, tally)
    except Failed as failed:
        status = complain(f"{failed}{failed.hint}", failed.status)
    except ConfigError as error:
        return complain(str(error), Exit.CONFIG)
    if wire is not None and tally.sent:
        wire.close()
        tell(tally, wire.refused, as_json=args.json)
        if wire.refused:
            return complain(
                f"the broker refused {wire.refused} of them: this account may not publish there", Exit.FAILED
            )
    return status


def grammar() -> parser.Parser:
    """The command line."""
    top = parser.Parser(
        prog="scripts/sensors",
        description=f"Publishes what a house of sensors says, from {BEGIN:%Y-%m-%d} on: the same for the same seed.",
    )
    top.add_argument("--seed", default="1", help="which house (default: %(default)s)")
    top.add_argument(
        "--speed", type=factor, default=1.0, metavar="FACTOR", help="how much faster than life (default: 1)"
    )
    top.add_argument(
        "--for", dest="seconds", type=words.seconds, default=math.inf, metavar="SECONDS",
        help="seconds to go on, at --speed 60 as many minutes of the house (default: until Ctrl-C)",
    )  # fmt: skip
    top.add_argument("--count", type=count, metavar="N", help="end after so many messages")
    top.add_argument("--profile", metavar="NAME", help="which profile (default: $TINYFAAS_PROFILE, or default)")
    parser.broker(top)
    parser.as_json(top, "print what was sent as one JSON document")
    top.set_defaults(timeout=CONNECT_S)
    return top


def play(args: argparse.Namespace, wire: Wire, tally: Tally) -> int:
    """Publish each message at its time."""
    picture, celsius = Picture(), dict[str, float]()
    begin_s = time.monotonic()
    try:
        for message in itertools.islice(house(args.seed), args.count):
            if message.at_s >= args.seconds * args.speed:
                break
            due_s = begin_s + message.at_s / args.speed
            while (now_s := time.monotonic()) < due_s:
                wire.rest(min(due_s, now_s + 1.0))
            wire.send(message)
            tally.add(message)
            if message.kind == "temperature":
                celsius[message.topic.split("/")[1]] = json.loads(message.payload)["celsius"]
            picture.show(tally, celsius)
        wire.confirmed()
    except KeyboardInterrupt:
        wire.confirmed()
    finally:
        picture.end()
    return Exit.OK


def tell(tally: Tally, refused: int, *, as_json: bool) -> None:
    """Print what was sent."""
    report = tally.report() | ({"refused": refused} if refused else {})
    if as_json:
        print(json.dumps(report))
        return
    print(f"{report['messages']} messages, {report['bytes'] / 1e6:.1f} MB, {tally.until_s / HOUR_S:.1f} h of the house")
    for kind, number in report["sent"].items():
        print(f"  {kind:<12}{number:>7}")
    print(f"{tally.begun} times a room got too hot, {tally.over} times it was fine again")


def factor(text: str) -> float:
    """How much faster than life."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1000000")
    return value


def count(text: str) -> int:
    """How many messages."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
