"""Invocations given up after retries: one file each, so that none is lost while others are run again."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path

from tinyfaas import log
from tinyfaas.files import write_atomically
from tinyfaas.protocol import encode

logger = log.get("deadletters")


class DeadLetters:
    """`<data_dir>/deadletters/<function>/<id>.json`, the newest `per_function` of each function."""

    def __init__(self, folder: Path, per_function: int) -> None:
        self._folder = folder
        self._per_function = per_function

    def keep(self, function: str, invocation: str, payload: bytes, body: bytes = b"") -> None:
        """Keep the payload of an invocation that was given up, and what its worker got if not that.

        A full disk is logged, not raised.
        """
        home = self._folder / function
        try:
            letter = {"payload": payload.decode("utf-8")}
            if body:
                letter["body_b64"] = base64.b64encode(body).decode("ascii")
            home.mkdir(mode=0o750, parents=True, exist_ok=True)
            write_atomically(home / f"{invocation}.json", encode(letter))
            for surplus in self._oldest_first(function)[: -self._per_function]:
                surplus.unlink(missing_ok=True)
        except OSError as error:
            logger.error("dead_letter_not_kept", function=function, invocation_id=invocation, error=str(error))

    def letters(self, function: str) -> list[tuple[Path, bytes, bytes]]:
        """What is kept of a function, oldest first: file, payload, and what the worker gets if not that."""
        found = []
        for file in self._oldest_first(function):
            try:
                letter = json.loads(file.read_bytes())
                body = base64.b64decode(letter.get("body_b64", ""))
                found.append((file, str(letter["payload"]).encode(), body))
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                logger.error("dead_letter_unreadable", path=str(file), error=str(error))
        return found

    def forget(self, function: str) -> None:
        """Remove what is kept of a function."""
        shutil.rmtree(self._folder / function, ignore_errors=True)

    def _oldest_first(self, function: str) -> list[Path]:
        files = [(file.stat().st_mtime_ns, file) for file in (self._folder / function).glob("*.json")]
        return [file for _, file in sorted(files)]
