"""What a function's `[output]` makes of its results: a publication each, or one for each change."""

from __future__ import annotations

import threading
from dataclasses import replace

from tinyfaas.loops import Loops
from tinyfaas.model import Answer, FunctionSpec, Publication


class Effects:
    """Remembers what each function published last while the server runs; after a restart everything is a change."""

    def __init__(self, loops: Loops) -> None:
        self._loops = loops
        self._changing = threading.Lock()
        self._last: dict[str, tuple[str, bytes]] = {}

    def added(self, answer: Answer, spec: FunctionSpec, chain: str, result: bytes | None) -> Answer:
        """An answer with what else it has to have published; `result` is JSON, None where there is none.

        `chain` is that of the request. What answers a request from outside needs no chain, and is left as it is.
        """
        publications = self._publications(spec, result)
        for publication in publications:
            self._loops.published(chain, spec, publication)
        if not publications and not chain:
            return answer
        return replace(answer, publications=publications, chain=self._loops.after(chain, spec.name))

    def forget(self, function: str) -> None:
        """A function has been deleted."""
        with self._changing:
            self._last.pop(function, None)

    def _publications(self, spec: FunctionSpec, result: bytes | None) -> tuple[Publication, ...]:
        output = spec.wiring.output
        if output is None or result is None or result == b"null":
            return ()
        if output.on == "change" and not self._changed(spec.name, output.topic, result):
            return ()
        return (Publication(output.topic, result, output.qos, output.retain, json=True),)

    def _changed(self, function: str, topic: str, result: bytes) -> bool:
        with self._changing:
            if self._last.get(function) == (topic, result):
                return False
            self._last[function] = (topic, result)
            return True
