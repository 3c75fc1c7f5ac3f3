"""What ran: `logs.json`, one JSON object per line, appended without fsync, trimmed beside and renamed.

A record is the answer as it went out, followed by `trigger` where no request was the cause, `args`, `kwargs` where
there were any, `cut` where something was too long, and `delivery`, by which a request that the broker delivers again is
recognised. Where several messages were the cause, or the message has more to cause, there are `deliveries`, those that
have caused all they had to, and `partly`, the others; `lead` is the first of several.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyfaas import log
from tinyfaas.config import History as Settings
from tinyfaas.protocol import LogsQuery, encode

logger = log.get("history")

# A quote inside a JSON string is escaped, so no text before them can imitate these; what a function got and returned
# comes behind them, so the first one found is the record's own.
_FUNCTION = re.compile(rb'"function":"([A-Za-z0-9_-]+)"')
_STATUS = re.compile(rb'"status":"(success|error)"')
_RECEIVED = b'{"received"'
_DELIVERY = re.compile(rb'"delivery":"([0-9a-f]*)\.([0-9]+)\.([0-9a-f]+)"}$')
_DELIVERIES = re.compile(rb'"deliveries":\[([^\]]*)\],"partly":\[([^\]]*)\]\}$')
_KEY = re.compile(rb'"([0-9a-f]*)\.([0-9]+)\.([0-9a-f]+)"')
_BLOCK = 262_144
_SAY_AGAIN_S = 60.0
_KEYS_OF_DELIVERY = ("delivery", "lead", "deliveries", "partly")
_OWN_KEYS = ("trigger", "args", "kwargs", *_KEYS_OF_DELIVERY)


@dataclass(slots=True)
class Totals:
    """How often a function was called, and how often that failed, as far back as the history knows."""

    calls: int = 0
    errors: int = 0


class History:
    """Appends from any thread; one reader of old records at a time is enough."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self._path = path
        self._settings = settings
        self._appending = threading.Lock()
        self._rewriting = threading.Lock()
        self._fd = -1
        self._size = 0
        self._said_s = -_SAY_AGAIN_S
        self.unrecorded = 0
        self._totals: dict[str, Totals] = {}
        self.session = ""
        self.partly: dict[int, tuple[int, set[str]]] = {}

    def load(self) -> dict[int, int]:
        """Open the file, drop a torn last line, count what is there.

        Returns the requests of the present session that were answered: packet id → digest. Those of which some
        functions are recorded and others are not are in `partly`.
        """
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._size = os.fstat(self._fd).st_size
        self._drop_torn_line()
        answered: dict[int, int] = {}
        unreadable = 0
        for line in _lines(self._path, self._size):
            if line.startswith(b'{"session":'):
                answered.clear()
                self.partly.clear()
                self._read_head(line)
                continue
            if found := _FUNCTION.search(line):
                self._count(found[1].decode(), failed=_failed(line))
            elif not line.startswith(_RECEIVED):
                unreadable += 1
                continue
            if found := _DELIVERY.search(line):
                void = line.startswith(_RECEIVED) or found[1].decode() != self.session
                answered[int(found[2])] = 0 if void else int(found[3], 16)
                self.partly.pop(int(found[2]), None)
            elif line.endswith(b"]}") and (found := _DELIVERIES.search(line)):
                self._read_deliveries(answered, found, _function_of(line))
        if unreadable:
            logger.error("records_unreadable", count=unreadable, path=str(self._path))
        return answered

    def reload(self, settings: Settings) -> None:
        """Go by other settings when it is trimmed next."""
        self._settings = settings

    def append(self, function: str, line: bytes, *, failed: bool) -> None:
        """Record one execution; `line` is a JSON object without its newline. A full disk is counted, not raised."""
        with self._appending:
            self._count(function, failed=failed)
            self._write(line + b"\n")

    def note_received(self, delivery: str) -> None:
        """Record that a new request took over the key of one answered earlier, which is then void."""
        with self._appending:
            self._write(b'{"received":true,"delivery":"%s"}\n' % delivery.encode())

    def begin_session(self) -> None:
        """The broker has forgotten our session: what was answered in the old one can't be delivered again."""
        with self._appending:
            self.session = secrets.token_hex(4)
            self._write(self._head({}))

    def totals(self, function: str) -> Totals:
        """How often a function was called and failed."""
        return self._totals.get(function) or Totals()

    def read(self, function: str, query: LogsQuery) -> list[dict[str, Any]]:
        """The newest records of a function that match, newest last."""
        found: list[dict[str, Any]] = []
        needle = b'"function":"%s"' % function.encode()
        for line in self._lines_from_the_end():
            if needle not in line or (record := _parsed(line)) is None or record.get("function") != function:
                continue
            if query.since and record.get("time_start", "") < query.since:
                continue
            if query.status in ("", record.get("status")):
                for key in _KEYS_OF_DELIVERY:
                    record.pop(key, None)
                found.append(record)
                if len(found) == query.limit:
                    break
        return found[::-1]

    def answer_to(self, delivery: str) -> dict[str, Any] | None:
        """The answer to the request with this key, unless a later one took the key over; None if unknown or cut."""
        needle = b'"delivery":"%s"}' % delivery.encode()
        for line in self._lines_from_the_end():
            if line.endswith(needle):
                record = _parsed(line)
                if record is None or "received" in record or "cut" in record:
                    return None
                return {key: value for key, value in record.items() if key not in _OWN_KEYS}
        return None

    def firing_of(self, function: str, delivery: str) -> dict[str, Any] | None:
        """What came of a function's call for the message with this key; None if unknown, cut, or led by another."""
        needle = b'"%s"' % delivery.encode()
        for line in self._lines_from_the_end():
            if (
                needle in line
                and _function_of(line) == function
                and (_DELIVERY.search(line) or _DELIVERIES.search(line))
            ):
                record = _parsed(line)
                if record is None or "cut" in record or record.get("lead", delivery) != delivery:
                    return None
                return {key: value for key, value in record.items() if key not in _OWN_KEYS}
        return None

    def forget(self, function: str) -> None:
        """Remove all records of a function."""
        self._totals.pop(function, None)
        self._rewrite(lambda lines: [_function_of(line) != function for line in lines])

    def tidy(self) -> None:
        """Trim the file if it has grown beyond its size; appends go on meanwhile."""
        if self._size > self._settings.max_bytes and (counts := self._rewrite(self._worth_keeping)) is not None:
            logger.info("history_trimmed", removed=counts[0], kept=counts[1])

    def close(self) -> None:
        """Flush to disk and close."""
        with self._appending:
            if self._fd >= 0:
                os.fsync(self._fd)
                os.close(self._fd)
                self._fd = -1

    def _write(self, data: bytes) -> None:
        try:
            written = os.write(self._fd, data)
            if written < len(data):  # the disk became full within a line
                os.ftruncate(self._fd, self._size)
                raise OSError(28, "no space left on device")
            self._size += written
        except OSError as error:
            self.unrecorded += 1
            now_s = time.monotonic()
            if now_s - self._said_s >= _SAY_AGAIN_S:
                self._said_s = now_s
                logger.error("history_unrecorded", error=str(error), unrecorded=self.unrecorded)

    def _read_deliveries(self, answered: dict[int, int], found: re.Match[bytes], function: str) -> None:
        """The keys at the end of a line that stands for several messages, or for a part of what one has caused."""
        for whole, keys in ((True, found[1]), (False, found[2])):
            for session, mid_text, digest_text in _KEY.findall(keys):
                mid, digest = int(mid_text), int(digest_text, 16)
                if session.decode() != self.session:
                    continue
                if whole:
                    answered[mid] = digest
                    self.partly.pop(mid, None)
                    continue
                before, functions = self.partly.get(mid, (0, set()))
                self.partly[mid] = (digest, (functions if before == digest else set()) | {function})

    def _count(self, function: str, *, failed: bool) -> None:
        totals = self._totals.setdefault(function, Totals())
        totals.calls += 1
        totals.errors += failed

    def _drop_torn_line(self) -> None:
        end = self._size
        while end > 0:
            start = max(0, end - _BLOCK)
            newline = os.pread(self._fd, end - start, start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < self._size:
            logger.warning("torn_record_dropped", bytes=self._size - end)
            os.ftruncate(self._fd, end)
            self._size = end

    def _head(self, totals: dict[str, tuple[int, int]]) -> bytes:
        return encode({"session": self.session, "totals": totals}) + b"\n"

    def _read_head(self, line: bytes) -> None:
        record = _parsed(line) or {}
        self.session = record.get("session", "")
        for function, (calls, errors) in record.get("totals", {}).items():
            self._totals[function] = Totals(calls, errors)

    def _lines_from_the_end(self) -> Iterator[bytes]:
        end, rest = self._size, b""
        with self._path.open("rb") as file:
            while end > 0:
                start = max(0, end - _BLOCK)
                file.seek(start)
                block = file.read(end - start) + rest
                rest, *lines = block.split(b"\n")
                yield from reversed(lines)
                end = start
        yield rest

    def _worth_keeping(self, lines: list[bytes]) -> list[bool]:
        seen: Counter[bytes] = Counter()
        keep = []
        for age, line in enumerate(reversed(lines)):
            found = _FUNCTION.search(line)
            seen[found[1] if found else b""] += 1
            keep.append(
                age < self._settings.recent or (found is not None and seen[found[1]] <= self._settings.per_function)
            )
        return keep[::-1]

    def _rewrite(self, choose: Callable[[list[bytes]], list[bool]]) -> tuple[int, int] | None:
        """Write the chosen lines beside, catch up with what was appended meanwhile, and rename.

        Returns how many lines were removed and kept; None if the disk would not have it.
        """
        beside = self._path.with_name(".logs.json.new")
        try:
            with self._rewriting, beside.open("wb") as file:
                with self._appending:
                    until = self._size
                    totals = {function: (each.calls, each.errors) for function, each in self._totals.items()}
                lines = [line for line in _lines(self._path, until) if not line.startswith(b'{"session":')]
                kept = [line for line, keep in zip(lines, choose(lines), strict=True) if keep]
                removed = len(lines) - len(kept)
                file.write(self._head(_without(totals, kept)))
                file.writelines(line + b"\n" for line in kept)
                file.flush()
                os.fsync(file.fileno())
                with self._appending:
                    file.write(os.pread(self._fd, self._size - until, until))
                    file.flush()
                    beside.chmod(0o640)
                    beside.replace(self._path)
                    os.close(self._fd)
                    self._fd = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
                    self._size = os.fstat(self._fd).st_size
        except OSError as error:
            beside.unlink(missing_ok=True)
            logger.error("history_not_trimmed", error=str(error))
            return None
        return removed, len(kept)


def _lines(path: Path, until: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        at = 0
        for line in file:
            at += len(line)
            if at > until:
                return
            yield line[:-1]


def _function_of(line: bytes) -> str:
    found = _FUNCTION.search(line)
    return found[1].decode() if found else ""


def _failed(line: bytes) -> bool:
    found = _STATUS.search(line)
    return found is not None and found[1] == b"error"


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _without(totals: dict[str, tuple[int, int]], kept: list[bytes]) -> dict[str, tuple[int, int]]:
    """The totals before the kept lines, which are counted again when the file is loaded."""
    counted: dict[str, Totals] = {}
    for line in kept:
        if found := _FUNCTION.search(line):
            each = counted.setdefault(found[1].decode(), Totals())
            each.calls += 1
            each.errors += _failed(line)
    return {
        function: (calls - counted[function].calls, errors - counted[function].errors)
        if function in counted
        else (calls, errors)
        for function, (calls, errors) in totals.items()
    }
