"""The conversation with one worker: wait until it has loaded its function, call it, and end it when it fails."""

from __future__ import annotations

import contextlib
import json
import select
import signal
import time
from collections.abc import Mapping
from typing import Any

from tinyfaas import log
from tinyfaas.cell import Cell, Cells
from tinyfaas.child import faaswire
from tinyfaas.context import Asides, Publish, Spoilt
from tinyfaas.errors import BadResult, BuildFailed, Crashed, Failure, FunctionError, OutOfMemory, Timeout
from tinyfaas.model import FunctionSpec
from tinyfaas.output import Output
from tinyfaas.protocol import decode_result

_READY_BYTES = 2  # `{}`: what most say when they are ready
_AT_ONCE_BYTES = 65_536
_SLACK_S = 1.0  # how long a worker that closed its channel may take to die by itself


class Worker:
    """A warm process. Used by one thread at a time; every failure to answer ends it."""

    def __init__(self, spec: FunctionSpec, cells: Cells, publish: Publish) -> None:
        """Spawn it; raises `BuildFailed`, and `BadRequest` for a device or secret that is not there."""
        self.spec = spec
        self.limits = spec.limits
        self.state_dir = spec.state_dir
        self.idle_since_s = time.monotonic()
        self.cell: Cell = cells.new(spec)
        self._number = 0
        self._deadline_s = 0.0
        self._unsent: Failure | None = None
        self._dead: str | None = None
        self._breach: Failure | None = None
        self._publish = publish
        self._asides: Asides | None = None
        self._said = bytearray()
        self._channel = self.cell.channel
        self._channel_fd = self._channel.fileno()
        self._output = Output(spec.name, spec.version, self.cell.pipes, spec.limits.max_output_bytes, self.cell.hidden)
        self._poll = select.poll()
        # A child that the function left may hold the other end of the channel: its end alone does not tell.
        for fd in (self._channel_fd, self.cell.exit_fd, *self.cell.pipes):
            self._poll.register(fd, select.POLLIN)

    @property
    def pid(self) -> int:
        """The process id."""
        return self.cell.pid

    @property
    def dead(self) -> bool:
        """Whether it was ended. One that has died by itself may not be known to have."""
        return self._dead is not None

    def usable(self) -> bool:
        """Whether it can be called: it lives, and nothing unasked stands in its channel. Logs what it printed since."""
        if self._dead is None:
            for fd, _ in self._poll.poll(0):
                if fd in (self._channel_fd, self.cell.exit_fd):
                    self.kill("ended or spoke without being asked")
                    break
                if not self._output.read(fd):
                    self._poll.unregister(fd)
        return self._dead is None

    def wait_ready(self, timeout_s: float) -> None:
        """Wait until func.py is loaded; raises `BuildFailed` with what its import said."""
        try:
            kind, _, body = self._receive(time.monotonic() + timeout_s, faaswire.LARGEST_ERROR_BYTES)
        except Timeout:
            raise BuildFailed(f"func.py was not loaded within {timeout_s:g} s", detail="") from None
        except (Crashed, OutOfMemory) as failure:
            raise BuildFailed(f"loading func.py ended its process: {failure.message}", detail="") from None
        self._output.end()
        if kind != faaswire.READY:
            self.kill("was not ready")
            said = _object(body)
            error = self.cell.hide(str(said.get("error", "func.py could not be loaded")))
            raise BuildFailed(error, detail=self.cell.hide(str(said.get("detail", ""))))
        if len(body) > _READY_BYTES and _object(body).get("context"):
            self._asides = Asides(self.spec, self._output, self._publish)

    def begin(self, invocation: str, payload: bytes, chain: str = "") -> None:
        """Send the call of `main` for a request's payload; whatever comes of that is told by `result`.

        `chain` names the functions that led to the call.
        """
        self._deadline_s = time.monotonic() + self.spec.limits.timeout_s
        self._number = (self._number + 1) & 0xFFFFFFFF
        self._output.begin(invocation)
        self._unsent = None
        kind, body = faaswire.CALL, payload
        if self._asides is not None:
            kind = faaswire.CALL_IN_CONTEXT
            body = self._asides.begin(invocation, log.told("request_id"), chain, self._deadline_s, payload)
        try:
            self._send(faaswire.frame(kind, self._number, body), self._deadline_s)
        except Failure as failure:
            self._unsent = failure

    def answered(self, within_ms: int = 0) -> bool:
        """Whether the whole answer is there, or comes within this time. Never said of a function that has a context."""
        if self._unsent is not None:
            return True
        if self._asides is not None or (within_ms and not self._poll.poll(within_ms)):
            return False
        with contextlib.suppress(OSError):  # nothing is there yet, or nothing ever will be: `result` tells which
            self._said += self._channel.recv(_AT_ONCE_BYTES)
        if len(self._said) < faaswire.HEADER.size:
            return False
        length, _, _ = faaswire.HEADER.unpack_from(self._said)
        return len(self._said) >= faaswire.HEADER.size + int(length)

    def result(self) -> bytes:
        """What `main` returned for the call that was begun, as JSON. Raises a `Failure` for anything else."""
        limits = self.spec.limits
        largest = max(limits.max_result_bytes, faaswire.LARGEST_ERROR_BYTES)
        try:
            if self._unsent is not None:
                raise self._unsent
            if self._asides is not None:
                kind, number, body = self._converse(self._asides)
            else:
                kind, number, body = self._receive(self._deadline_s, largest)
        except Timeout:
            raise Timeout(f"it ran longer than {limits.timeout_s:g} s and was killed") from None
        finally:
            self._output.end()
        if number != self._number or kind not in (faaswire.RESULT, faaswire.ERROR):
            raise self._spoilt()
        if kind == faaswire.ERROR:
            raise self._failure(_object(body))
        try:
            return decode_result(body)
        except (ValueError, RecursionError):
            self.kill("sent a result that is not JSON")
            raise BadResult("the result is not JSON") from None

    def kill(self, reason: str) -> None:
        """End the process and everything it has started, and reap it."""
        if self._dead is not None:
            return
        self._dead = reason
        self.cell.clear()
        for fd in self._output.pipes:
            self._output.read(fd)
        self._output.end()
        self.cell.close_pipes()

    def end(self, breach: Failure) -> None:
        """Kill the process from another thread, because of this."""
        self._breach = breach
        self.interrupt()

    def interrupt(self) -> None:
        """Kill the process from another thread; the one that waits for its answer sees it die."""
        if self._dead is None:
            self.cell.strike()

    def _converse(self, asides: Asides) -> tuple[int, int, bytes]:
        """Do what a call asks for while it runs, and return the frame that ends it."""
        while True:
            kind, number, body = self._receive(self._deadline_s, asides.largest_frame(), alone=False)
            if number != self._number:
                raise self._spoilt()
            if kind in (faaswire.RESULT, faaswire.ERROR):
                if self._said:
                    raise self._spoilt()
                return kind, number, body
            try:
                told = asides.heed(kind, body)
            except Spoilt:
                raise self._spoilt() from None
            if told is not None:
                self._send(faaswire.frame(faaswire.PUBLISHED, self._number, told), self._deadline_s)

    def _spoilt(self) -> Failure:
        self.kill("wrote to its frame channel")
        return Crashed("the function wrote to its frame channel")

    def _failure(self, said: Mapping[str, Any]) -> Failure:
        error = str(said.get("error", "it failed"))
        if said.get("code") == OutOfMemory.code:
            self.kill("ran out of memory")
            return OutOfMemory(error)
        if said.get("code") == BadResult.code:
            return BadResult(error)
        details = {key: self.cell.hide(str(said[key])) for key in ("error_type", "traceback") if said.get(key)}
        refused = self._asides.refused(said.get("code")) if self._asides else None
        return (refused or FunctionError)(self.cell.hide(error), **details)

    def _send(self, data: bytes, deadline_s: float) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self._channel.send(view) :]
            except BlockingIOError:
                self._wait_writable(deadline_s)
            except OSError:
                raise self._died() from None

    def _wait_writable(self, deadline_s: float) -> None:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0 or not select.select((), (self._channel_fd,), (), left_s)[1]:
            self.kill("did not read its call")
            raise Timeout("it did not take its call in time and was killed")

    def _receive(self, deadline_s: float, largest: int, *, alone: bool = True) -> tuple[int, int, bytes]:
        """The next frame as kind, number and body, while logging what is printed. Where it is not to come `alone`,
        what came behind it is kept for the next time.
        """
        buffer = self._said
        if buffer:
            self._read_printed([fd for fd, _ in self._poll.poll(0)])
        wanted = faaswire.HEADER.size
        while True:
            if len(buffer) >= wanted:
                length, kind, number = faaswire.HEADER.unpack_from(buffer)
                wanted = faaswire.HEADER.size + length
                if length > largest or (alone and len(buffer) > wanted):
                    raise self._spoilt()
                if len(buffer) >= wanted:
                    body = bytes(memoryview(buffer)[faaswire.HEADER.size : wanted])
                    del buffer[:wanted]
                    return kind, number, body
            left_ms = (deadline_s - time.monotonic()) * 1000
            fds = [fd for fd, _ in self._poll.poll(max(0.0, left_ms))]
            # An answer that is there counts, also where this thread had other things to do until now.
            if not fds or (left_ms <= 0 and self._channel_fd not in fds):
                self.kill("ran too long")
                raise Timeout("it ran too long and was killed")
            self._read_printed(fds)
            if self._channel_fd in fds:
                self._read_into(buffer)
            elif self.cell.exit_fd in fds:
                raise self._died()

    def _read_printed(self, fds: list[int]) -> None:
        """What was printed before the answer is logged before the answer."""
        for fd in fds:
            if fd in self._output.pipes and not self._output.read(fd):
                self._poll.unregister(fd)

    def _read_into(self, buffer: bytearray) -> None:
        try:
            data = self._channel.recv(1_048_576 if buffer else _AT_ONCE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            raise self._died()
        buffer += data

    def _died(self) -> Failure:
        """How the process ended; one that lives on without its channel is killed."""
        code = self.cell.wait(_SLACK_S)
        starved = self.cell.out_of_memory()
        self.kill("died")
        if self._breach is not None:
            return self._breach
        if starved:
            return OutOfMemory(f"it used more than the {self.spec.limits.memory_mb} MiB it may, and was killed")
        if code is None:
            return Crashed("the function closed its frame channel")
        if code < 0:
            return Crashed(f"its process was killed by {_signal_name(-code)}")
        return Crashed(f"its process exited with status {code}")


def _object(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
