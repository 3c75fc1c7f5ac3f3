"""Which retained messages have been run: a broker shows them again with every new subscription.

A retained message that is published anew while we are connected arrives without the retain flag and is always run.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path

from tinyfaas import log
from tinyfaas.files import write_atomically
from tinyfaas.protocol import encode

logger = log.get("retained")

_MOST_TOPICS = 1_000


class Retained:
    """`<data_dir>/retained.json`: topic → digest of what was run, for the topics last run."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changing = threading.Lock()
        self._run: dict[str, str] = {}

    def load(self) -> None:
        """Read what was run before this start; a file that can't be read counts as empty."""
        try:
            self._run = {str(topic): str(digest) for topic, digest in json.loads(self._path.read_bytes()).items()}
        except FileNotFoundError:
            return
        except (OSError, ValueError, AttributeError) as error:
            logger.error("retained_unreadable", path=str(self._path), error=str(error))

    def was_run(self, topic: str, digest: int) -> bool:
        """Whether this publication has been run."""
        return self._run.get(topic) == f"{digest:016x}"

    def note(self, topic: str, digest: int) -> None:
        """Remember that a publication was run. A full disk is logged: at worst it runs once more."""
        with self._changing:
            self._run.pop(topic, None)
            self._run[topic] = f"{digest:016x}"
            while len(self._run) > _MOST_TOPICS:
                del self._run[next(iter(self._run))]
            try:
                write_atomically(self._path, encode(self._run))
            except OSError as error:
                logger.error("retained_not_recorded", error=str(error))
