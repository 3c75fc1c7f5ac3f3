"""Deploys a function whenever one of its files is saved, and shows its calls in between; until Ctrl-C."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinyfaas.cli import deploying, folder, show, signature
from tinyfaas.cli.answers import complain, complain_of, to_json
from tinyfaas.cli.failures import Unusable
from tinyfaas.cli.follow import Follow, print_record, say_if_lost, topics_of
from tinyfaas.cli.line import Message
from tinyfaas.cli.progress import Progress
from tinyfaas.cli.station import Station
from tinyfaas.cli.terminal import GREEN, coloured, width_of
from tinyfaas.exits import Exit

_LOOK_S = 0.3
_SETTLED_S = 0.15  # an editor may write several files, or one in several steps
_WATCHED = ("func.py", "requirements.txt", "function.toml")

Seen = dict[str, tuple[int, int, int]]


def run(args: argparse.Namespace) -> int:
    """Watch, deploy, follow. Only a folder that is none, or a broker that is not there, ends it early."""
    name = args.name or folder.name_of(args.folder)
    folder.upload_of(args.folder)  # a folder that can't be used at the start is a mistake in the command
    try:
        with Station(args, lambda topics: _topics(topics, name)) as station:
            dev = Dev(args, station, name)
            dev.greet()
            dev.watch()
    except KeyboardInterrupt:
        pass
    finally:
        if width_of(sys.stderr):
            print(file=sys.stderr)  # after the terminal's ^C
    return Exit.OK


def _topics(topics: Any, name: str) -> list[str]:
    return [topics.admin_answer("upload", name), topics.event("upload", name), *topics_of(topics, name)]


class Dev:
    """One function under way."""

    def __init__(self, args: argparse.Namespace, station: Station, name: str) -> None:
        self._args = args
        self._station = station
        self._name = name
        self._follow = Follow(station, name, {"limit": 1})
        self._progress = Progress(sys.stderr, width_of(sys.stderr))
        self._seen: Seen = {}
        self._digest = ""
        self._upload = ""
        self._is_there = False

    def greet(self) -> None:
        """Say what is about to be done; and if the function is there as it is here, that there is nothing to upload."""
        self._say(f"watching {self._args.folder}, deploying to {self._station.where}; Ctrl-C ends it")
        digest = folder.digest_of(folder.upload_of(self._args.folder))
        if (version := deploying.unchanged(self._args, self._name, digest)) is not None:
            self._is_there, self._digest = True, digest
            self._say(show.unchanged({"function": self._name, "version": version}))

    def watch(self) -> None:
        """Go on until interrupted."""
        lost, next_look_s = "", 0.0
        while True:
            if time.monotonic() >= next_look_s:
                self._look()
                next_look_s = time.monotonic() + _LOOK_S
            if self._is_there:
                self._follow.ask()
            if (message := self._station.hear(next_look_s)) is not None:
                self._take(message)
            lost = say_if_lost(self._station, lost)

    def _look(self) -> None:
        """Upload what is new since the last look, when nobody writes to it any more."""
        seen = look_at(self._args.folder)
        if seen == self._seen:
            return
        time.sleep(_SETTLED_S)
        if look_at(self._args.folder) != seen:
            return
        try:
            body = folder.upload_of(self._args.folder)
        except Unusable as error:
            self._seen = seen
            complain(str(error))
            return
        if (digest := folder.digest_of(body)) != self._digest:
            if self._args.sign:
                body = signature.signed(body, self._name, self._station.node, self._args.sign, self._args.timeout)
            self._upload = self._station.ask("upload", self._name, body, self._args.timeout)
            if not self._upload:
                return  # the broker is away: at the next look again
            self._digest = digest
        self._seen = seen

    def _take(self, message: Message) -> None:
        if message.body.get("request_id") == self._upload:
            if "phase" in message.body:
                self._progress.show(message.body)
            else:
                self._conclude(message.body)
            return
        for record in self._follow.take(message):
            self._progress.end()
            print_record(record, as_json=self._args.json)

    def _conclude(self, answer: Mapping[str, Any]) -> None:
        self._progress.end()
        if self._args.json:
            print(to_json(answer), flush=True)
        if answer.get("status") == "error":
            complain_of(answer)
            return
        self._is_there = True
        self._say(coloured(show.deployed(answer), GREEN, sys.stderr))

    def _say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def look_at(home: Path) -> Seen:
    """What tells whether one of its files has changed: inode, time and size of each."""
    seen: Seen = {}
    for name in _WATCHED:
        try:
            about = (home / name).stat()
        except OSError:
            continue
        seen[name] = (about.st_ino, about.st_mtime_ns, about.st_size)
    return seen
