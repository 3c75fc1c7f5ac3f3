"""A live view of every node and function: a screen on a terminal, documents or plain text elsewhere."""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import shutil
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any, NoReturn

from tinyfaas.cli import show
from tinyfaas.cli.answers import to_json
from tinyfaas.cli.fleet import Document, Fleet
from tinyfaas.cli.station import Station
from tinyfaas.cli.terminal import BOLD, DIM, RED, YELLOW, coloured, width_of
from tinyfaas.exits import Exit

_GRAIN_S = 0.2  # how long a key may wait
_HOT_C = 80.0  # from here on a Pi slows down
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_QUIT = ("q", "Q", "\x1b")


def run(args: argparse.Namespace) -> int:
    """Look every interval; until Ctrl-C or q, or only once."""
    on_screen = bool(width_of(sys.stdout)) and not args.json and not args.once
    try:
        with Station(args, lambda topics: Fleet(topics).topics()) as station:
            fleet = Fleet(station.topics, args.node or "")
            with _screen() if on_screen else contextlib.nullcontext():
                _look(args, station, fleet, on_screen=on_screen)
    except KeyboardInterrupt:
        pass
    return Exit.OK


def _look(args: argparse.Namespace, station: Station, fleet: Fleet, *, on_screen: bool) -> None:
    looks = 0
    while True:
        for command in ("status", "list"):
            station.ask(command, "", {}, args.interval)
        looks += 1
        until_s = time.monotonic() + args.interval
        while (now_s := time.monotonic()) < until_s:
            if on_screen and _key() in _QUIT:
                return
            if (message := station.hear(min(until_s, now_s + _GRAIN_S))) is not None:
                fleet.take(message)
        if args.once and looks == 1:
            continue  # a rate needs two looks
        _put(args, station, fleet.document(), on_screen=on_screen)
        if args.once:
            return


def _put(args: argparse.Namespace, station: Station, document: Document, *, on_screen: bool) -> None:
    if args.json:
        print(to_json({"broker": station.where, "lost": station.lost or None, **document}), flush=True)
    elif on_screen:
        size = shutil.get_terminal_size()
        lines = list(lines_of(document, station.where, station.lost))
        sys.stdout.write(drawn(lines, size.columns, size.lines))
        sys.stdout.flush()
    else:
        print("\n".join(lines_of(document, station.where, station.lost)), flush=True)


def lines_of(document: Document, where: str, lost: str) -> Iterator[str]:
    """The whole view in lines."""
    nodes, functions = document["nodes"], document["functions"]
    rate = sum(each["calls_per_s"] for each in functions)
    errors = sum(each["errors_per_s"] for each in functions)
    summary = f"{where}  {len(nodes)} nodes, {len(functions)} functions, {rate:.1f} calls/s, {errors:.1f} errors/s"
    yield coloured(show.printable(summary), BOLD)
    if lost:
        yield coloured(show.printable(f"{lost}; trying again"), RED)
    yield ""
    if not nodes:
        yield "no node has answered yet"
        return
    yield from _rows(_NODES, [_node_row(each) for each in nodes], [_node_colour(each) for each in nodes])
    if functions:
        busiest = sorted(functions, key=lambda each: (-each["calls_per_s"], each["function"], each["node"]))
        yield ""
        rows, colours = [_function_row(each) for each in busiest], [_function_colour(each) for each in busiest]
        yield from _rows(_FUNCTIONS, rows, colours)


def drawn(lines: list[str], columns: int, rows: int) -> str:
    """What changes a screen into these lines, as far as there is room; each line is cut to the screen's width."""
    room = max(1, rows - 1)
    shown = lines if len(lines) <= room else [*lines[: room - 1], f"… {len(lines) - room + 1} more"]
    return "\x1b[H" + "".join(f"{_cut(line, columns)}\x1b[K\r\n" for line in shown) + "\x1b[J"


_NODES = ("NODE", "STATE", "VERSION", "UP", "CPU", "LOAD", "MEMORY", "SERVER", "WORKERS", "TEMP", "RUN", "WAIT")
_FUNCTIONS = ("FUNCTION", "NODE", "STATE", "VERSION", "CALLS/S", "ERR/S", "P50", "P99", "CALLS", "ERRORS", "WARM", "")


def _rows(head: tuple[str, ...], rows: list[list[str]], colours: list[str]) -> Iterator[str]:
    first, *others = show.table([head, *rows]).splitlines()
    yield coloured(first, DIM)
    for line, colour in zip(others, colours, strict=True):
        yield coloured(line, colour) if colour else line


def _node_row(node: Mapping[str, Any]) -> list[str]:
    return [
        node["node"], node["state"], show.cell(node["version"]), _told(node["uptime_s"], show.duration),
        _told(node["cpu_percent"], lambda value: f"{value:.0f} %"), show.cell(node["load_1m"]),
        _told(node["memory_used_percent"], lambda value: f"{value:.0f} %"), _told(node["server_rss_bytes"], show.size),
        _told(node["workers_rss_bytes"], show.size), _told(node["temperature_c"], lambda value: f"{value:.1f} °C"),
        show.cell(node["running"]), show.cell(node["waiting"]),
    ]  # fmt: skip


def _node_colour(node: Mapping[str, Any]) -> str:
    if node["state"] != "online":
        return RED
    return YELLOW if (node["temperature_c"] or 0) >= _HOT_C else ""


def _function_row(function: Mapping[str, Any]) -> list[str]:
    return [
        function["function"], function["node"], show.cell(function["state"]), show.cell(function["version"]),
        f"{function['calls_per_s']:.1f}", f"{function['errors_per_s']:.1f}", _told(function["p50_ms"], _ms),
        _told(function["p99_ms"], _ms), show.cell(function["calls"]), show.cell(function["errors"]),
        show.cell(function["warm"]), function["reason"] or "",
    ]  # fmt: skip


def _function_colour(function: Mapping[str, Any]) -> str:
    if function["state"] == "failing" or function["errors_per_s"] > 0:
        return RED
    return YELLOW if function["state"] == "building" else ""


def _ms(value: float) -> str:
    return show.duration(value / 1000)


def _told(value: Any, form: Any) -> str:
    return form(value) if isinstance(value, int | float) else "-"


def _cut(line: str, columns: int) -> str:
    """A line without what goes beyond the screen; what colours it takes no room."""
    before, text, after = line, "", ""
    if line.startswith("\x1b["):
        start = line.index("m") + 1
        before, text, after = line[:start], line[start:-4], line[-4:]
        return before + text[:columns] + after
    return line[:columns]


@contextlib.contextmanager
def _screen() -> Iterator[None]:
    """A screen of our own, with keys as they are hit; what was there before comes back, however this ends."""
    fd = sys.stdin.fileno() if sys.stdin.isatty() else -1
    before = termios.tcgetattr(fd) if fd >= 0 else None
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    try:
        if fd >= 0:
            tty.setcbreak(fd)
        sys.stdout.write(_ENTER)
        yield
    finally:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
        if before is not None:
            termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def _key() -> str:
    """The key that was hit, if one was."""
    if not sys.stdin.isatty() or not select.select((sys.stdin,), (), (), 0)[0]:
        return ""
    return os.read(sys.stdin.fileno(), 1).decode("ascii", "replace")
