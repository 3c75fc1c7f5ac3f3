"""The composition root: makes the rooms, starts them in order, keeps watch, and stops them in order."""

from __future__ import annotations

import gc
import os
import secrets
import signal
import sys
import threading
import time
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Any

from tinyfaas import config as configuration
from tinyfaas import family, files, log
from tinyfaas.admin import Admin
from tinyfaas.config import Config
from tinyfaas.deadletters import DeadLetters
from tinyfaas.delivery import Ledger
from tinyfaas.deploy import Deployer
from tinyfaas.dispatch import Dispatcher
from tinyfaas.environments import Environments
from tinyfaas.errors import AlreadyRunning, ConfigError
from tinyfaas.exits import Exit
from tinyfaas.gateway.gateway import Gateway
from tinyfaas.history import History
from tinyfaas.pool import Pool
from tinyfaas.protocol import Topics, iso_time
from tinyfaas.recorder import Recorder
from tinyfaas.registry import Registry
from tinyfaas.retained import Retained
from tinyfaas.sandbox import Sandbox
from tinyfaas.status import Status
from tinyfaas.systemd import Notifier
from tinyfaas.watch import Watch

logger = log.get("daemon")

_TICK_S = 1.0
_REAP_EVERY_S = 5.0
_BEAT_S = 15.0  # a network thread that connects may be silent for as long as one attempt takes


def serve(config_file: Path | None) -> int:
    """Run the server until it is told to stop; returns an exit status, see `tinyfaas.exits`."""
    try:
        config = configuration.load(config_file, os.environ)
        log.configure(config.log.level, config.log.format)
        return Daemon(config).run()
    except ConfigError as error:
        print(f"tinyfaas: {error}", file=sys.stderr)
        return Exit.CONFIG
    except AlreadyRunning as error:
        print(f"tinyfaas: {error}", file=sys.stderr)
        return Exit.LOCKED
    except OSError as error:
        print(f"tinyfaas: {error}", file=sys.stderr)
        return Exit.CANT_CREATE


class Daemon:
    """The server of one data directory."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stop = threading.Event()
        self._notifier = Notifier()
        version = metadata.version("tinyfaas")
        for folder in (config.data_dir, config.functions_dir, config.data_dir / "answers"):
            folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._lock = files.lock(config.data_dir / "lock")
        topics = Topics(config.mqtt.base_topic, config.mqtt.response_topic)
        instance = secrets.token_hex(8)
        presence = {
            "node": config.node.name, "version": version, "instance": instance, "since": iso_time(time.time()),
        }  # fmt: skip
        self._history = History(config.data_dir / "logs.json", config.history)
        self._ledger = Ledger(config.queue, self._history, config.data_dir / "answers")
        self._registry = Registry(config.data_dir / "functions.json", config.functions_dir, config.limits)
        self._sandbox = Sandbox(config.sandbox.mode)
        self._pool = Pool(config.pool, config.node.name, self._sandbox, self._registry.get_spec)
        environments = Environments(config.uploads, self._sandbox)
        self._watch_over = Watch(self._pool.busy, self._pool.everyone, environments.building)
        self._dead_letters = DeadLetters(config.data_dir / "deadletters", config.history.dead_letters)
        self._retained = Retained(config.data_dir / "retained.json")
        self._deployer = Deployer(self._registry, self._pool, environments, config.uploads, self._forget)
        self._gateway = Gateway(config, topics, self._ledger, presence)
        recorder = Recorder(
            config.node.name, topics, self._history, self._ledger, config.history.cut_bytes,
            self._registry.__contains__,
        )  # fmt: skip
        self._dispatcher = Dispatcher(
            config, topics, self._registry, self._pool, self._ledger, recorder, self._dead_letters, self._retained,
            self._gateway.reply_invocation, self._gateway.publish_letter,
        )  # fmt: skip
        status = Status(
            config, version, self._sandbox, self._gateway, self._dispatcher, self._pool, self._ledger, self._history
        )
        self._admin = Admin(
            config, topics, self._registry, self._pool, self._history, self._deployer,
            status, self._dispatcher.redrive, self._gateway.reply_command, self._gateway.event,
        )  # fmt: skip
        self._gateway.open(
            self._dispatcher.submit, self._dispatcher.refuse, self._dispatcher.answer_again, self._admin.submit
        )

    def run(self) -> int:
        """Load, start, watch, stop."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._asked_to_stop)
        self._registry.load()
        self._ledger.restore(self._history.load())
        self._retained.load()
        self._deployer.sweep()
        logger.info(
            "starting", node=self._config.node.name, functions=len(self._registry), threads=self._config.threads
        )
        family.adopt_orphans()
        self._say_sandbox()
        self._watch_over.start()
        self._dispatcher.start()
        self._admin.start()
        self._gateway.start()
        self._gateway.wait_attempted(self._config.mqtt.connect_timeout_s)
        gc.freeze()  # what was made so far stays: no collection need look at it again
        self._notifier.ready()
        logger.info("ready")
        self._watch()
        return self._shut_down()

    def _say_sandbox(self) -> None:
        if self._sandbox.missing:
            say = logger.error if self._sandbox.required else logger.warning
            say("no_sandbox", reason=self._sandbox.missing, functions_run=not self._sandbox.required)

    def _forget(self, function: str) -> None:
        """Remove what is remembered of a deleted function."""
        self._history.forget(function)
        self._dead_letters.forget(function)

    def _watch(self) -> None:
        """The main loop: presence, idle workers, the history's size, and the watchdog."""
        next_reap_s, said = 0.0, ""
        refused, next_refused_s = 0, 0.0
        while not self._stop.is_set():
            self._gateway.changed.wait(_TICK_S)
            self._gateway.changed.clear()
            self._gateway.announce()
            if time.monotonic() >= next_reap_s:
                next_reap_s = time.monotonic() + _REAP_EVERY_S
                self._pool.reap_idle()
                self._history.tidy()
            if self._ledger.refused != refused and time.monotonic() >= next_refused_s:
                next_refused_s = time.monotonic() + _TICK_S
                logger.warning("queue_full", refused=self._ledger.refused - refused)
                refused = self._ledger.refused
            if (line := self._line()) != said:
                self._notifier.status(line)
                said = line
            self._feed_watchdog()

    def _feed_watchdog(self) -> None:
        """Say that the server is alive, if every thread has shown so. A broker that is away is no reason not to."""
        late = [*self._dispatcher.stuck(), *self._admin.dead(), *self._watch_over.dead(), *self._gateway.late(_BEAT_S)]
        if late:
            logger.error("threads_stuck", threads=late)
        else:
            self._notifier.alive()

    def _line(self) -> str:
        mqtt, names = self._config.mqtt, self._registry.names()
        failing = sum(bool(self._pool.trouble(name)) for name in names)
        connected = "connected to" if self._gateway.up else "waiting for"
        running = self._dispatcher.running()
        return f"{connected} {mqtt.host}:{mqtt.port}, {len(names)} functions, {running} running, {failing} failing"

    def _shut_down(self) -> int:
        """Stop taking, finish what runs, say goodbye, flush: in this order, so that nothing is lost on the way."""
        logger.info("stopping", running=self._dispatcher.running(), waiting=self._dispatcher.waiting())
        self._notifier.stopping()
        deadline_s = time.monotonic() + self._config.drain_s
        self._gateway.pause()  # first: what is not taken now stays with the broker
        self._dispatcher.stop(deadline_s)  # answers still go out
        self._admin.stop(deadline_s)
        self._gateway.stop()  # only now, because the answers went this way
        self._watch_over.stop()
        self._pool.close()
        self._history.close()
        self._notifier.close()
        logger.info("stopped")
        return Exit.OK

    def _asked_to_stop(self, _number: int, _frame: FrameType | None) -> Any:
        if self._stop.is_set():  # asked twice: at once
            self._pool.interrupt()
            os._exit(Exit.FORCED)
        self._stop.set()
        self._gateway.changed.set()
