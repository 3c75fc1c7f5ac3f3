"""The administrative commands. What is quick is answered at once; what takes long has a lane of its own."""

from __future__ import annotations

import dataclasses
import queue
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tinyfaas import environments, log, tap
from tinyfaas.config import Config
from tinyfaas.deploy import Deployer
from tinyfaas.errors import BadRequest, Failure, Internal, Unavailable
from tinyfaas.fairqueue import IDLE_S, FairQueue
from tinyfaas.history import History
from tinyfaas.model import Answer, FunctionSpec, Request
from tinyfaas.pool import Pool
from tinyfaas.protocol import (
    Topics,
    Upload,
    check_function,
    check_time,
    encode,
    error_keys,
    function_of,
    glimpse_request_id,
    parse_admin_topic,
    parse_envelope,
    parse_logs,
    parse_object,
    parse_upload,
    take_back_response_topic,
)
from tinyfaas.pulse import Pulse
from tinyfaas.registry import Registry
from tinyfaas.signing import Signers

logger = log.get("admin")

Reply = Callable[[Request, Answer | None], None]
Publish = Callable[[str, bytes], None]
Body = Mapping[str, Any]
_SILENCE = Answer("", b"")
_QUICK_S = 60.0  # a command that builds nothing; reading a long history takes seconds on a slow card
_TIDYING_S = 120.0  # around a build: unpacking, removing, syncing
_LINE_PAUSE_S = 0.2  # an installer may print hundreds of lines a second; a progress bar needs five


@dataclass(slots=True)
class Command:
    """One administrative request on its way."""

    request: Request
    request_id: str
    name: str = ""
    function: str = ""
    body: Body = dataclasses.field(default_factory=dict)
    upload: Upload | None = None


class Admin:
    """Serves the admin topics: one thread for quick commands, a few for building, so neither waits for the other."""

    def __init__(
        self, config: Config, topics: Topics, registry: Registry, pool: Pool, history: History, deployer: Deployer,
        signers: Signers, status: Callable[[], dict[str, Any]], redrive: Callable[[str], int],
        upcoming: Callable[[FunctionSpec], list[dict[str, Any]]], reply: Reply, publish: Publish,
    ) -> None:  # fmt: skip
        self._config = config
        self._topics = topics
        self._registry = registry
        self._pool = pool
        self._history = history
        self._deployer = deployer
        self._signers = signers
        self._reply = reply
        self._publish = publish
        self._redrive_letters = redrive
        self._upcoming = upcoming
        self._building: dict[str, None] = {}
        self._stopping = False
        self._arrived: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._lane: FairQueue[Command] = FairQueue(lambda _: 1)
        self._quick: dict[str, Callable[[Command], dict[str, Any]]] = {
            "list": lambda _: self._list(),
            "info": lambda command: self._info(command.function),
            "logs": self._logs,
            "status": lambda _: {**status(), "functions": self._counts()},
        }
        self._long: dict[str, Callable[[Command], dict[str, Any]]] = {
            "upload": self._upload,
            "delete": self._delete,
            "rollback": self._rollback,
            "redrive": self._redrive,
        }
        builders = [f"build-{number}" for number in range(config.uploads.threads)]
        self._pulses = {name: Pulse(name) for name in ("admin", *builders)}
        self._threads = [
            threading.Thread(
                target=self._serve_quick if name == "admin" else self._serve_lane, args=(pulse,), name=name, daemon=True
            )
            for name, pulse in self._pulses.items()
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def reload(self, config: Config) -> None:
        """Go by another configuration from the next command on."""
        self._config = config

    def submit(self, request: Request) -> None:
        """Queue a command; never waits."""
        self._arrived.put(request)

    def stop(self, deadline_s: float) -> None:
        """Let what is being built finish until the monotonic `deadline_s`; what waits is left to the broker."""
        self._stopping = True
        self._arrived.put(None)
        for command in self._lane.close():
            self._reply(command.request, None)
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))

    def stuck(self, within_s: float) -> list[str]:
        """Threads that have died, or have shown no life within this time or the longest that their command may take."""
        return [
            each.name
            for each in self._threads
            if not self._stopping and (self._pulses[each.name].late(within_s) or not each.is_alive())
        ]

    def _serve_quick(self, pulse: Pulse) -> None:
        while True:
            pulse.beat()
            try:
                request = self._arrived.get(timeout=IDLE_S)
            except queue.Empty:
                continue
            if request is None:
                return
            pulse.allow(_QUICK_S)
            self._guarded(Command(request, glimpse_request_id(request.payload)), self._answer_or_queue)

    def _serve_lane(self, pulse: Pulse) -> None:
        finished: str | None = None
        while (taken := self._lane.take(finished, pulse.beat)) is not None:
            finished, command = taken
            pulse.allow(self._config.uploads.build_timeout_s + self._config.pool.start_timeout_s + _TIDYING_S)
            self._guarded(command, self._build)
            pulse.beat()

    def _build(self, command: Command) -> None:
        self._building[command.function] = None
        try:
            said = self._long[command.name](command)
        finally:
            self._building.pop(command.function, None)  # before the answer: who asks next sees it ready
        self._finish(command, said)

    def _guarded(self, command: Command, step: Callable[[Command], None]) -> None:
        """Take a step; whatever goes wrong becomes the answer, and the thread lives on."""
        log.about(request_id=self._label(command))
        try:
            step(command)
        except Failure as failure:
            self._fail(command, failure)
        except OSError as error:  # a full disk above all
            logger.exception("command_os_error", command=command.name, function=command.function)
            self._fail(command, Internal(f"the system refused: {error.strerror or error}"))
        except Exception:
            logger.exception("command_internal_error", command=command.name, function=command.function)
            self._fail(command, Internal("a fault of the server's own; its log tells more"))
        finally:
            log.about()

    def _answer_or_queue(self, command: Command) -> None:
        if not self._understood(command):
            self._reply(command.request, _SILENCE)
        elif command.name in self._long:
            self._queue_long(command)
        else:
            self._finish(command, self._quick[command.name](command))

    def _understood(self, command: Command) -> bool:
        """Fill in what a request asks for; False if it is for another node. Raises `BadRequest`."""
        request = command.request
        forbidden = take_back_response_topic(request, self._config.mqtt.response_prefixes)
        route = parse_admin_topic(request.topic[len(self._topics.admin_prefix) :])
        command.name = route.command
        if route.function:
            command.function = check_function(route.function)
        if len(request.payload) > self._config.uploads.max_bytes:
            raise BadRequest(
                f"the payload has {len(request.payload)} bytes, {self._config.uploads.max_bytes} are allowed"
            )
        body = parse_object(request.payload)
        envelope = parse_envelope(body)
        command.request_id = envelope.request_id or command.request_id
        if envelope.node and envelope.node != self._config.node.name:
            return False
        command.function = function_of(route, body)
        command.body = body
        if forbidden is not None:
            raise forbidden
        check_time(request, envelope.deadline_ms, time.monotonic())
        return True

    def _queue_long(self, command: Command) -> None:
        if self._stopping:
            raise Unavailable("the server is stopping")
        if command.name == "upload":
            upload = parse_upload(command.body)
            self._deployer.check(command.function, upload)
            command.upload, command.body = self._signers.admit(command.function, upload, command.body), {}
            self._progress(command, time.monotonic(), "queued")
        self._lane.submit(command.function, command)

    def _upload(self, command: Command) -> dict[str, Any]:
        started_s = time.monotonic()
        said_s, held = started_s - _LINE_PAUSE_S, ""

        def report(phase: str, line: str) -> None:
            """Tell each phase, and of its lines as many as one can read: the last of them always."""
            nonlocal said_s, held
            if line and time.monotonic() - said_s < _LINE_PAUSE_S:
                held = line
                return
            if held and not line:
                self._progress(command, started_s, "install", held)
            said_s, held = time.monotonic() if line else said_s, ""
            self._progress(command, started_s, phase, line)

        assert command.upload is not None
        try:
            version = self._deployer.upload(command.function, command.upload, report)
        except BaseException:
            self._progress(command, started_s, "failed")
            raise
        self._progress(command, started_s, "ready")
        seconds = round(time.monotonic() - started_s, 3)
        signed_by = {"signed_by": version.signed_by} if version.signed_by else {}
        logger.info(
            "function_deployed", function=command.function, version=version.number, seconds=seconds, **signed_by
        )
        return {"function": command.function, "version": version.number, "seconds": seconds}

    def _delete(self, command: Command) -> dict[str, Any]:
        self._deployer.delete(command.function)
        logger.info("function_deleted", function=command.function)
        return {"status": "deleted", "function": command.function}

    def _rollback(self, command: Command) -> dict[str, Any]:
        version = self._deployer.rollback(command.function)
        logger.info("function_rolled_back", function=command.function, version=version.number)
        return {"function": command.function, "version": version.number}

    def _redrive(self, command: Command) -> dict[str, Any]:
        self._registry.record(command.function)
        return {"function": command.function, "redriven": self._redrive_letters(command.function)}

    def _list(self) -> dict[str, Any]:
        names = self._registry.names()
        details = [self._details(name) for name in names]
        return {"functions": names, "details": [each for each in details if each]}

    def _info(self, name: str) -> dict[str, Any]:
        record = self._registry.record(name)
        spec, home = self._registry.spec(name), self._registry.home(name)
        environment = home / "environments" / record.version.environment
        return {
            **self._details(name),
            "versions": [
                {
                    "version": version.number,
                    "uploaded": version.uploaded,
                    "digest": version.digest,
                    **({"signed_by": version.signed_by} if version.signed_by else {}),
                }
                for version in record.versions
            ],
            "config": {
                **dataclasses.asdict(spec.limits),
                **dataclasses.asdict(spec.surroundings),  # of secrets the names
                "retry": dataclasses.asdict(spec.retry),
            },
            "subscribes": [each.topic for each in spec.wiring.trigger],
            "publishes": [
                *spec.wiring.publish,
                *([spec.wiring.output.topic] if spec.wiring.output else []),
            ],
            "schedules": self._upcoming(spec),
            "python": environments.python_version(environment),
            "requirements": environments.installed(environment),
        }

    def _logs(self, command: Command) -> dict[str, Any]:
        query = parse_logs(command.body)
        self._registry.record(command.function)
        if query.output_s:
            tap.open_to_listeners(command.function, query.output_s)
        return {"function": command.function, "logs": self._history.read(command.function, query)}

    def _details(self, name: str) -> dict[str, Any]:
        record = self._registry.get(name)
        if record is None:  # deleted a moment ago
            return {}
        version = record.version
        reason = self._pool.trouble(name)
        totals = self._history.totals(name)
        return {
            "function": name,
            "version": version.number,
            "state": self._state(name, reason),
            **({"reason": reason} if reason else {}),
            "calls": totals.calls,
            "errors": totals.errors,
            "warm": self._pool.warm(name),
            "uploaded": version.uploaded,
        }

    def _state(self, name: str, reason: str) -> str:
        if name in self._building:
            return "building"
        return "failing" if reason else "ready"

    def _counts(self) -> dict[str, int]:
        states = [self._state(name, self._pool.trouble(name)) for name in self._registry.names()]
        return {"count": len(states), **{state: states.count(state) for state in ("ready", "building", "failing")}}

    def _progress(self, command: Command, started_s: float, phase: str, line: str = "") -> None:
        event = {
            "function": command.function,
            "request_id": self._label(command),
            "node": self._config.node.name,
            "phase": phase,
            "elapsed_s": round(time.monotonic() - started_s, 3),
            **({"line": line} if line else {}),
        }
        self._publish(self._topics.event("upload", command.function), encode(event))

    def _finish(self, command: Command, said: dict[str, Any]) -> None:
        answer = {"status": "ok", "request_id": self._label(command), "node": self._config.node.name, **said}
        self._reply(command.request, Answer(self._topic(command), encode(answer)))

    def _fail(self, command: Command, failure: Failure) -> None:
        logger.warning(
            "command_failed", command=command.name, function=command.function, code=failure.code, error=failure.message
        )
        function = {"function": command.function} if command.function else {}
        answer = {"request_id": self._label(command), "node": self._config.node.name, **function, **error_keys(failure)}
        wherefrom = {
            "topic": command.request.topic,
            "command": command.name or _first_level(command.request.topic, self._topics),
        }
        self._reply(command.request, Answer(self._topic(command), encode(answer), encode({**answer, **wherefrom})))

    def _label(self, command: Command) -> str:
        if not command.request_id:
            command.request_id = secrets.token_hex(8)
        return command.request_id

    def _topic(self, command: Command) -> str:
        """Where the answer goes; nowhere but to the error topic if the command or its function can't be told."""
        if command.request.response_topic:
            return command.request.response_topic
        named = command.name in self._long or command.name in ("info", "logs")
        if not command.name or (named and not command.function):
            return ""
        return self._topics.admin_answer(command.name, command.function if named else "")


def _first_level(topic: str, topics: Topics) -> str:
    return topic[len(topics.admin_prefix) :].partition("/")[0][:80]
