"""What a function's `[output]` makes of its results: a publication each, or one for each change."""

from __future__ import annotations

import threading
from dataclasses import replace

from tinyfaas.loops import Loops
from tinyfaas.model import Answer, Firing, FunctionSpec, Publication, Request


class Effects:
    """Remembers what each function published last while the server runs; after a restart everything is a change."""

    def __init__(self, loops: Loops, error_topic: str) -> None:
        self._loops = loops
        self._error_topic = error_topic
        self._changing = threading.Lock()
        self._last: dict[str, tuple[str, bytes]] = {}

    def added(
        self, answer: Answer, request: Request, spec: FunctionSpec | None, result: bytes | None, *, again: bool = False
    ) -> Answer:
        """An answer with what else is to be published; `result` is JSON, None where there is none.

        If it is made `again`, because the first may not have been published, the result counts as changed.
        What answers a request from outside, and nobody else hears of, needs no chain, and is left as it is.
        """
        publications = self._publications(spec, result, again=again) if spec is not None else ()
        if not (publications or request.chain or (isinstance(request, Firing) and answer.error_payload)):
            return answer
        chain = self._loops.after(request.chain, request.function)
        for each in publications:
            self._loops.published(chain, each.topic, each.payload)
        if answer.error_payload:
            self._loops.published(chain, self._error_topic, answer.error_payload)
        if answer.payload:
            self._loops.published(chain, answer.topic, answer.payload)
        return replace(answer, publications=publications, chain=chain)

    def forget(self, function: str) -> None:
        """A function has been deleted."""
        with self._changing:
            self._last.pop(function, None)

    def _publications(self, spec: FunctionSpec, result: bytes | None, *, again: bool) -> tuple[Publication, ...]:
        output = spec.wiring.output
        if output is None or result is None or result == b"null":
            return ()
        if output.on == "change" and not self._changed(spec.name, output.topic, result) and not again:
            return ()
        return (Publication(output.topic, result, output.qos, output.retain, json=True),)

    def _changed(self, function: str, topic: str, result: bytes) -> bool:
        with self._changing:
            if self._last.get(function) == (topic, result):
                return False
            self._last[function] = (topic, result)
            return True
