"""Shows what functions print to whoever has asked for it, for as long as was asked; the log has it in any case."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from tinyfaas.protocol import iso_time

Event = dict[str, Any]

_ABOUT = {"function": "function", "version": "version", "id": "invocation_id", "request_id": "request_id"}


class Taps:
    """Which functions are listened to, and until when. Nobody listens for ever: a listener that goes is not missed."""

    def __init__(self) -> None:
        self._until_s: dict[str, float] = {}
        self._changing = threading.Lock()
        self._publish: Callable[[str, Event], None] | None = None

    def connect(self, publish: Callable[[str, Event], None]) -> None:
        """Have the events of a function published by this."""
        self._publish = publish

    def open(self, function: str, for_s: float) -> None:
        """Show what this function prints, from now on for so many seconds."""
        now_s = time.monotonic()
        with self._changing:
            until_s = max(self._until_s.get(function, 0.0), now_s + for_s)
            self._until_s = {name: end_s for name, end_s in self._until_s.items() if end_s > now_s}
            self._until_s[function] = until_s

    def tell(self, stream: str, line: str, about: Mapping[str, Any], more: Mapping[str, Any]) -> None:
        """Publish a line, if somebody listens. `about` are the fields of its log record, `more` a record's own."""
        function = about["function"]
        if self._publish is None or self._until_s.get(function, 0.0) < time.monotonic():
            return
        said = {key: about[name] for key, name in _ABOUT.items() if name in about}  # outside a call it has no ids
        self._publish(function, {**said, "time": iso_time(time.time()), "stream": stream, "line": line, **more})


# One for the whole server, as the log is.
_taps = Taps()
connect = _taps.connect
open_to_listeners = _taps.open
tell = _taps.tell
