"""Warm workers per function: lease, give back, end the idle, and back off from a function that can't start."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from tinyfaas import log
from tinyfaas.cell import Cells
from tinyfaas.config import Pool as Settings
from tinyfaas.context import Publish
from tinyfaas.errors import BuildFailed, Crashed, Failure, Unavailable
from tinyfaas.model import FunctionSpec, Result
from tinyfaas.processes import memory_is_short
from tinyfaas.worker import Worker

logger = log.get("pool")

_FIRST_BACKOFF_S = 0.5
_MIB = 1024 * 1024
_AT_ONCE_BYTES = 65_536  # of a payload: a socket takes so much though nobody reads it yet


@dataclass(slots=True)
class Trouble:
    """A function whose workers die at start: how often in a row, why, and until when it is left alone."""

    failures: int
    reason: str
    until_s: float


class Pool:
    """Runs calls in workers. `current` tells the spec in force for a name, or None once it is deleted; `publish` sends
    what functions publish.
    """

    def __init__(
        self, settings: Settings, cells: Cells, current: Callable[[str], FunctionSpec | None], publish: Publish
    ) -> None:
        self._settings = settings
        self._cells = cells
        self._current = current
        self._publish = publish
        self._changing = threading.Lock()
        self._idle: dict[str, deque[Worker]] = {}
        self._busy: set[Worker] = set()
        self._troubles: dict[str, Trouble] = {}
        self._closed = False
        self.started = 0
        self.killed = 0

    def begin(self, spec: FunctionSpec, invocation: str, payload: bytes, chain: str = "") -> Worker | None:
        """Send a call to a warm worker, without waiting for anything; None where that can't be."""
        if len(payload) > _AT_ONCE_BYTES or (worker := self._lease_warm(spec)) is None:
            return None
        worker.begin(invocation, payload, chain)
        return worker

    def run(
        self, spec: FunctionSpec, invocation: str, payload: bytes, chain: str = "", begun: Worker | None = None
    ) -> Result:
        """Call the function in a warm worker, or a new one; raises the `Failure` that came instead of a result.

        `begun` is the worker to which `begin` has sent this call.
        """
        worker, cold = (begun, False) if begun else self._lease(spec)
        try:
            if begun is None:
                worker.begin(invocation, payload, chain)
            return Result(worker.result(), cold)
        except Failure as failure:
            failure.cold = cold
            if not worker.usable():
                self.killed += 1
                logger.warning("worker_killed", function=spec.name, version=spec.version, invocation_id=invocation,
                               code=failure.code, reason=failure.message)  # fmt: skip
            raise
        finally:
            self._give_back(worker)

    def start(self, spec: FunctionSpec) -> Worker:
        """Start a worker and wait until its function is loaded; raises `BuildFailed`. The caller owns it."""
        sandbox = self._cells.sandbox
        if sandbox.forbids_running:
            raise Unavailable(f"no function runs without a sandbox here: {sandbox.missing}")
        worker = Worker(spec, self._cells, self._publish)
        with self._changing:
            self._busy.add(worker)
            self.started += 1
        try:
            worker.wait_ready(self._settings.start_timeout_s)
        except BaseException:
            self.discard(worker)
            raise
        return worker

    def adopt(self, worker: Worker) -> None:
        """Take a started worker for calls to come; a good start ends a function's trouble."""
        self._troubles.pop(worker.spec.name, None)
        current = self._current(worker.spec.name)
        if current == worker.spec:
            worker.spec = current  # the same object compares faster, at every call
        self._give_back(worker)

    def discard(self, worker: Worker) -> None:
        """End a worker that is not to be used."""
        worker.kill("discarded")
        with self._changing:
            self._busy.discard(worker)

    def retire(self, function: str) -> None:
        """End the idle workers of a function; the busy ones end when they come back, for they serve an old version."""
        with self._changing:
            idle = self._idle.pop(function, deque())
            self._troubles.pop(function, None)
        for worker in idle:
            worker.kill("its version was replaced")

    def trouble(self, function: str) -> str:
        """Why a function is failing; empty if it isn't. A quiet time clears it."""
        trouble = self._troubles.get(function)
        if trouble is None:
            return ""
        if time.monotonic() > trouble.until_s + self._settings.backoff_max_s:
            self._troubles.pop(function, None)
            return ""
        return trouble.reason

    def warm(self, function: str) -> int:
        """Workers of a function that stand ready or run."""
        with self._changing:
            busy = sum(worker.spec.name == function for worker in self._busy)
            return busy + len(self._idle.get(function, ()))

    def pids(self) -> list[int]:
        """The process ids of all workers."""
        with self._changing:
            return [worker.pid for worker in self._all()]

    def busy(self) -> list[Worker]:
        """The workers that run a call or load their function."""
        with self._changing:
            return list(self._busy)

    def everyone(self) -> list[Worker]:
        """All workers."""
        with self._changing:
            return self._all()

    def counts(self) -> dict[str, int]:
        """How many workers are busy and idle, were started, and were killed."""
        with self._changing:
            idle = sum(map(len, self._idle.values()))
            return {"busy": len(self._busy), "idle": idle, "started": self.started, "killed": self.killed}

    def reap_idle(self) -> None:
        """End workers that have been idle too long or have died; and, when memory is short, half of the idle ones.

        Those that a function keeps warm stay. Called now and then.
        """
        oldest_s = time.monotonic() - self._settings.idle_s
        short = memory_is_short(self._settings.min_available_mb * _MIB)
        with self._changing:
            spare = self._spare()
            due = spare[: (len(spare) + 1) // 2] if short else []
            due += [worker for worker in spare[len(due) :] if worker.idle_since_s < oldest_s]
            dead = [worker for waiting in self._idle.values() for worker in waiting if not worker.usable()]
            ended = [*dead, *(worker for worker in due if worker not in dead)]
            self._remove(ended)
        if short and due:
            logger.warning("memory_short", ended=len(due))
        for worker in ended:
            worker.kill("was idle")

    def _spare(self) -> list[Worker]:
        """The idle workers beyond those that their functions keep warm, the longest idle first."""
        spare: list[Worker] = []
        for waiting in self._idle.values():
            keep = waiting[0].spec.limits.min_warm if waiting else 0
            spare += list(waiting)[: max(0, len(waiting) - keep)]
        return sorted(spare, key=lambda worker: worker.idle_since_s)

    def warm_up(self, spec: FunctionSpec) -> None:
        """Start a worker ahead of any call; one that can't start is left alone for a while."""
        if self._closed or self._backed_off_s(spec.name) > 0:
            return
        try:
            self.adopt(self.start(spec))
        except Failure as failure:
            self._back_off(spec.name, failure.message)

    def interrupt(self) -> None:
        """Kill what still runs; each call that waits for an answer ends as `crashed`."""
        with self._changing:
            for worker in self._busy:
                worker.interrupt()

    def close(self) -> None:
        """End every worker; what is given back from now on is ended too."""
        with self._changing:
            self._closed = True
            idle = [worker for waiting in self._idle.values() for worker in waiting]
            self._idle.clear()
            for worker in self._busy:
                worker.interrupt()
        for worker in idle:
            worker.kill("the server stops")

    def _lease_warm(self, spec: FunctionSpec) -> Worker | None:
        while (worker := self._pop_idle(spec.name)) is not None:
            if (worker.spec is spec or worker.spec == spec) and worker.usable():
                return worker
            self.discard(worker)
        return None

    def _lease(self, spec: FunctionSpec) -> tuple[Worker, bool]:
        if (worker := self._lease_warm(spec)) is not None:
            return worker, False
        self._refuse_while_backed_off(spec.name)
        try:
            worker = self.start(spec)
        except BuildFailed as failure:
            self._back_off(spec.name, failure.message)
            raise Crashed(f"its worker did not start: {failure.message}") from None
        self._troubles.pop(spec.name, None)
        return worker, True

    def _pop_idle(self, function: str) -> Worker | None:
        with self._changing:
            waiting = self._idle.get(function)
            if not waiting:
                return None
            worker = waiting.pop()  # the warmest
            if not waiting:
                del self._idle[function]
            self._busy.add(worker)
            return worker

    def _give_back(self, worker: Worker) -> None:
        spec = self._current(worker.spec.name)
        wanted = spec is not None and (worker.spec is spec or worker.spec == spec) and not worker.dead
        surplus: list[Worker] = []
        with self._changing:
            self._busy.discard(worker)
            if wanted and not self._closed:
                worker.idle_since_s = time.monotonic()
                self._idle.setdefault(worker.spec.name, deque()).append(worker)
                surplus = self._surplus()
                self._remove(surplus)
            else:
                surplus.append(worker)
        for ended in surplus:
            ended.kill("is not wanted")

    def _surplus(self) -> list[Worker]:
        count = sum(map(len, self._idle.values())) - self._settings.max_idle
        return self._spare()[:count] if count > 0 else []

    def _remove(self, workers: list[Worker]) -> None:
        for worker in workers:
            waiting = self._idle[worker.spec.name]
            waiting.remove(worker)
            if not waiting:
                del self._idle[worker.spec.name]

    def _all(self) -> list[Worker]:
        return [*self._busy, *(worker for waiting in self._idle.values() for worker in waiting)]

    def _refuse_while_backed_off(self, function: str) -> None:
        trouble, left_s = self._troubles.get(function), self._backed_off_s(function)
        if trouble and left_s > 0:
            raise Unavailable(f"the function is failing and is tried again in {left_s:.1f} s: {trouble.reason}")

    def _backed_off_s(self, function: str) -> float:
        trouble = self._troubles.get(function)
        return trouble.until_s - time.monotonic() if trouble else 0.0

    def _back_off(self, function: str, reason: str) -> None:
        trouble = self._troubles.get(function)
        failures = trouble.failures + 1 if trouble else 1
        pause_s = min(self._settings.backoff_max_s, _FIRST_BACKOFF_S * 2 ** min(failures - 1, 20))
        self._troubles[function] = Trouble(failures, reason, time.monotonic() + pause_s)
        logger.error("function_failing", function=function, failures=failures, pause_s=pause_s, reason=reason)
