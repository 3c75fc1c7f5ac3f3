"""The server on this computer without a broker: the same rooms build, close in, limit and call one function.

Environments are kept between runs in the user's cache; everything else begins anew each time, state included.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from tinyfaas import environments, family, files, heap, log, output
from tinyfaas.cell import Cells
from tinyfaas.cgroups import Delegation
from tinyfaas.config import Config
from tinyfaas.credentials import Credentials
from tinyfaas.deadletters import DeadLetters
from tinyfaas.delivery import Ledger
from tinyfaas.dispatch import Dispatcher
from tinyfaas.environments import Environments
from tinyfaas.errors import BadRequest, ConfigError
from tinyfaas.forkserver import ForkServer
from tinyfaas.history import History
from tinyfaas.inlet import NoInlet
from tinyfaas.loops import Loops
from tinyfaas.model import Answer, Publication, Request, Version
from tinyfaas.pool import Pool
from tinyfaas.protocol import Topics, encode, iso_time, parse_upload, upload_digest
from tinyfaas.publisher import Publisher
from tinyfaas.recorder import Recorder
from tinyfaas.registry import Record, Registry
from tinyfaas.retained import Retained
from tinyfaas.sandbox import Sandbox
from tinyfaas.triggers import Triggers
from tinyfaas.watch import Watch

_NOWHERE = Path("/nonexistent")
_DRAIN_S = 1.0
_KEPT = "environments"
_EVERYTHING_SHOWN = 1e6

Event = dict[str, Any]


class Local:
    """A server of one function. `on_event` hears what it would log, and may be called from any thread."""

    def __init__(self, config: Config, home: Path, on_event: Callable[[Event], None]) -> None:
        """`home` is a folder that is this server's own; raises `AlreadyRunning` where another one uses it."""
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = files.lock(home / "lock")
        log.divert(on_event)
        heap.share()
        data, functions = home / "data", home / "functions"
        _begin_anew(data, functions)
        self._topics = topics = Topics("faas")
        self._answers: queue.SimpleQueue[Answer | None] = queue.SimpleQueue()
        self._history = History(data / "logs.json", config.history)
        ledger = Ledger(config.queue, self._history, data / "answers")
        self._registry = registry = Registry(data / "functions.json", functions, config.limits)
        # This process shares its control group with the user's shell, which is not to be moved: the watch holds limits.
        delegation = Delegation(root=_NOWHERE)
        self.sandbox = Sandbox(config.sandbox.mode, seccomp=config.sandbox.seccomp)
        self._forks = ForkServer()
        credentials = Credentials(config.sandbox.secrets_dir, os.environ)
        self._cells = Cells(config.node.name, self.sandbox, self._forks, delegation, credentials)
        loops = Loops(config.node.name, remembers=False)
        self._on_event = on_event
        publisher = Publisher(topics, loops, self._published)
        self._pool = Pool(config.pool, self._cells, registry.get_spec, publisher.publish)
        self._environments = Environments(config.uploads, self.sandbox)
        self._watch = Watch(self._pool.busy, self._pool.everyone, self._environments.building, rations_cpu=True)
        recorder = Recorder(
            config.node.name, topics, self._history, ledger, config.history.cut_bytes, registry.__contains__,
            _EVERYTHING_SHOWN,
        )  # fmt: skip
        output.limit(config.log.output_bytes_per_s)
        self._dispatcher = Dispatcher(
            config, topics, registry, self._pool, ledger, recorder, DeadLetters(data / "deadletters", 1),
            Retained(data / "retained.json"), Triggers(topics.requests, ""), loops,
            lambda _, answer: self._answers.put(answer), lambda *_: None, lambda _: None, lambda: None,
            NoInlet(),
        )  # fmt: skip

    def __enter__(self) -> Local:
        self._history.load()
        family.adopt_orphans()
        self._forks.start()
        self._cells.try_out()
        self._watch.start()
        self._dispatcher.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._dispatcher.stop(time.monotonic() + _DRAIN_S)
        self._watch.stop()
        self._pool.close()
        self._forks.close()
        self._history.close()
        os.close(self._lock)

    def upload(self, name: str, body: Mapping[str, Any], report: Callable[[str, str], None]) -> None:
        """Build and try a function as an upload with these keys would be; raises `Failure`."""
        upload, home = parse_upload(body), self._registry.home(name)
        try:
            self._registry.spec_for(name, Version(0, "", "", "none", upload.config))
        except ConfigError as error:
            raise BadRequest(str(error)) from None
        code_dir = home / "versions" / "1"
        code_dir.mkdir(parents=True)
        (code_dir / "func.py").write_bytes(upload.code)
        (code_dir / "requirements.txt").write_bytes(upload.requirements)
        environment = self._environments.prepare(home, code_dir / "requirements.txt", report)
        environments.remove_unused(home, (environment,))
        digest = upload_digest(upload.code, upload.requirements, upload.config)
        version = Version(1, iso_time(time.time()), digest, environment, upload.config)
        report("import", "")
        worker = self._pool.start(self._registry.spec_for(name, version))
        self._registry.put(name, Record(1, 2, (version,)))
        self._pool.adopt(worker)
        report("ready", "")

    def call(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Run it with a request's keys; returns the answer as a client would get it."""
        request = Request(self._topics.invoke_prefix + name, encode(body), received_s=time.monotonic())
        self._dispatcher.accept(request)
        self._dispatcher.arrived()
        answer = self._answers.get()
        assert answer is not None  # which is dropped only at a stop
        said: dict[str, Any] = json.loads(answer.payload)
        return said

    def _published(self, publication: Publication, _chain: str) -> str:
        """What would be published is told, and goes nowhere."""
        shown = publication.payload.decode("utf-8", "backslashreplace")
        self._on_event({"event": "published", "topic": publication.topic, "payload": shown})
        return ""


def home_of(folder: Path) -> Path:
    """Where the environments of a folder's function are kept between runs."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    return cache / "tinyfaas" / hashlib.blake2b(os.fsencode(folder.resolve()), digest_size=6).hexdigest()


def _begin_anew(data: Path, functions: Path) -> None:
    """Remove all that an earlier run has left, but for environments."""
    shutil.rmtree(data, ignore_errors=True)
    for folder in (data / "answers", functions):
        folder.mkdir(parents=True, exist_ok=True)
    for entry in functions.glob("*/*"):
        if entry.name != _KEPT:
            files.remove(entry)
