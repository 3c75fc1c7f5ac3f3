"""The composition root: makes the rooms, starts them in order, keeps watch, and stops them in order."""

from __future__ import annotations

import faulthandler
import gc
import os
import secrets
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from tinyfaas import config as configuration
from tinyfaas import family, files, heap, log, output, pulse, tap
from tinyfaas.admin import Admin
from tinyfaas.cell import Cells
from tinyfaas.cgroups import Delegation
from tinyfaas.config import Config
from tinyfaas.credentials import Credentials
from tinyfaas.deadletters import DeadLetters
from tinyfaas.delivery import Ledger
from tinyfaas.deploy import Deployer
from tinyfaas.dispatch import Dispatcher
from tinyfaas.environments import Environments
from tinyfaas.errors import AlreadyRunning, ConfigError
from tinyfaas.exits import Exit
from tinyfaas.forkserver import ForkServer
from tinyfaas.gateway.gateway import Gateway
from tinyfaas.history import History
from tinyfaas.lastruns import LastRuns
from tinyfaas.loops import Loops
from tinyfaas.pool import Pool
from tinyfaas.protocol import Topics, encode, iso_time
from tinyfaas.publisher import Publisher
from tinyfaas.pulse import Pulse
from tinyfaas.recorder import Recorder
from tinyfaas.registry import Registry
from tinyfaas.reload import merged
from tinyfaas.retained import Retained
from tinyfaas.sandbox import Sandbox
from tinyfaas.schedules import Schedules
from tinyfaas.signing import Signers
from tinyfaas.status import Status
from tinyfaas.systemd import Notifier
from tinyfaas.triggers import Triggers
from tinyfaas.warmth import Warmth
from tinyfaas.watch import Watch

logger = log.get("daemon")

_TICK_S = 1.0
_REAP_EVERY_S = 5.0
_UNWATCHED_S = 30.0  # where no watchdog is set, what is stuck for so long is said all the same
_SAY_STUCK_AGAIN_S = 10.0
_STEP_S = 120.0  # what one step of starting may take on a slow card with many functions
_FIRST_ATTEMPT_S = 5.0  # a broker that does not even refuse is no reason to start late
_LETTING_GO_S = 60.0  # what finishing the calls of a function that is deleted may take of a thread that builds
_ENDING_S = 30.0  # what a stop may take besides its drain


def serve(config_file: Path | None) -> int:
    """Run the server until it is told to stop; returns an exit status, see `tinyfaas.exits`."""
    try:
        config = configuration.load(config_file, os.environ)
        log.configure(config.log)
        faulthandler.enable()  # the watchdog bites with SIGABRT: where each thread hung is in the journal then
        return Daemon(config, config_file).run()
    except ConfigError as error:
        print(f"tinyfaas: {error}", file=sys.stderr)
        return Exit.CONFIG
    except AlreadyRunning as error:
        print(f"tinyfaas: {error}", file=sys.stderr)
        return Exit.LOCKED
    except OSError as error:
        print(f"tinyfaas: {error}", file=sys.stderr)
        return Exit.CANT_CREATE
    finally:
        log.flush()


class Daemon:
    """The server of one data directory."""

    def __init__(self, config: Config, config_file: Path | None = None) -> None:
        self._config = config
        self._config_file = config_file
        self._stop = False
        self._reload = False
        pulse.honour_freezes(os.environ.get("TINYFAAS_DEBUG_FREEZE", ""))
        self._pulse = Pulse("main")
        self._stuck: list[str] = []
        heap.share()
        self._said_stuck_s = 0.0
        self._notifier = Notifier()
        self._notifier.starting("starting", _STEP_S)
        version = _installed_version()
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
        self._delegation = Delegation()  # while there is no other process of ours
        self._sandbox = Sandbox(config.sandbox.mode, seccomp=config.sandbox.seccomp)
        self._forks = ForkServer()
        credentials = Credentials(config.sandbox.secrets_dir, os.environ)
        self._cells = Cells(config.node.name, self._sandbox, self._forks, self._delegation, credentials)
        triggers = Triggers(topics.requests, config.node.group, identifiers=config.mqtt.protocol == "5")
        self._gateway = Gateway(config, topics, self._ledger, presence, self._registry, triggers)
        loops = Loops(config.node.name, remembers=config.mqtt.protocol != "5")
        publisher = Publisher(topics, loops, self._gateway.publish)
        self._pool = Pool(config.pool, self._cells, self._registry.get_spec, publisher.publish)
        self._environments = Environments(config.uploads, self._sandbox)
        self._watch_over = Watch(
            self._pool.busy, self._pool.everyone, self._environments.building,
            rations_cpu="cpu" not in self._delegation.controllers,
        )  # fmt: skip
        self._warmth = Warmth(self._pool, self._registry.specs)
        self._dead_letters = DeadLetters(config.data_dir / "deadletters", config.history.dead_letters)
        self._retained = Retained(config.data_dir / "retained.json")
        self._signers = Signers(self._registry, config.uploads, config.data_dir / "signed.json")
        self._deployer = Deployer(
            self._registry, self._pool, self._signers, self._environments, config.uploads, topics, self._forget,
            self._gateway.take_up, self._let_go,
        )  # fmt: skip
        self._recorder = Recorder(
            config.node.name, topics, self._history, self._ledger, config.history.cut_bytes,
            self._registry.__contains__, config.log.successes_per_s,
        )  # fmt: skip
        output.limit(config.log.output_bytes_per_s)
        tap.connect(
            lambda function, said: self._gateway.event(
                topics.event("output", function), encode({"node": config.node.name, **said})
            )
        )
        self._dispatcher = Dispatcher(
            config, topics, self._registry, self._pool, self._ledger, self._recorder, self._dead_letters,
            self._retained, triggers, loops,
            self._gateway.reply_invocation, self._gateway.publish_letter, self._gateway.discard,
            self._gateway.send_answers, self._gateway.inlet(),
        )  # fmt: skip
        self._last_runs = LastRuns(config.data_dir / "schedules.json")
        self._schedules = Schedules(self._registry.specs, self._dispatcher.run_scheduled, self._last_runs)
        self._status = Status(
            config, version, self._sandbox, self._delegation, self._gateway, self._dispatcher, self._pool, self._forks,
            self._ledger, self._history,
        )  # fmt: skip
        self._admin = Admin(
            config, topics, self._registry, self._pool, self._history, self._deployer, self._signers,
            self._status, self._dispatcher.redrive, self._schedules.upcoming, self._gateway.reply_command,
            self._gateway.event,
        )  # fmt: skip
        self._gateway.open(
            self._dispatcher.accept,
            self._dispatcher.arrived,
            self._dispatcher.refuse,
            self._dispatcher.answer_again,
            self._admin.submit,
        )

    def run(self) -> int:
        """Load, start, watch, stop."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._asked_to_stop)
        # A terminal that is closed sends the same signal as `systemctl reload`, and wants the server gone.
        signal.signal(signal.SIGHUP, self._asked_to_stop if sys.stderr.isatty() else self._asked_to_reload)
        for doing, step in (
            ("loading functions", self._registry.load),
            ("loading the history", lambda: self._ledger.restore(self._history.load())),
            ("loading retained requests", self._retained.load),
            ("loading schedules", self._last_runs.load),
            ("loading signatures", self._signers.load),
            ("removing leftovers", self._deployer.sweep),
        ):
            self._notifier.starting(doing, _STEP_S)
            step()
        logger.info(
            "starting", node=self._config.node.name, functions=len(self._registry), threads=self._config.threads
        )
        family.adopt_orphans()
        self._delegation.sweep()
        self._forks.start()
        self._cells.try_out()
        self._say_sandbox()
        self._watch_over.start()
        self._warmth.start()
        self._dispatcher.start()
        self._admin.start()
        self._gateway.start()
        self._gateway.wait_attempted(min(_FIRST_ATTEMPT_S, self._config.mqtt.connect_timeout_s))
        gc.collect()
        heap.trim()
        gc.freeze()  # what was made so far stays: no collection need look at it again
        self._notifier.ready(self._line())
        logger.info("ready", functions=len(self._registry), connected=self._gateway.up)
        self._watch()
        return self._shut_down()

    def _say_sandbox(self) -> None:
        if self._sandbox.missing:
            say = logger.error if self._sandbox.required else logger.warning
            say("no_sandbox", reason=self._sandbox.missing, functions_run=not self._sandbox.required)

    def _forget(self, function: str) -> None:
        """Remove what is remembered of a deleted function."""
        self._history.forget(function)
        self._dispatcher.forget(function)
        self._dead_letters.forget(function)

    def _let_go(self, function: str) -> None:
        """Before a function goes, run what the group's other nodes can't any more: the broker has given it to us."""
        if self._gateway.let_go([function]):
            self._dispatcher.finish([function], time.monotonic() + min(self._config.drain_s, _LETTING_GO_S))

    def _watch(self) -> None:
        """The main loop: presence, schedules, idle workers, the history's size, the log, and the watchdog."""
        next_reap_s = next_feed_s = 0.0
        refused, next_refused_s = 0, 0.0
        feed_every_s = self._notifier.watchdog_s / 3 or _TICK_S
        while not self._stop:
            wait_s = self._schedules.wait_s(_TICK_S)
            self._gateway.wait_changed(max(0.0, min(wait_s, next_feed_s - time.monotonic())))
            self._pulse.beat()
            self._schedules.look()
            self._gateway.announce()
            if self._reload:
                self._reload = False
                self._read_settings_again()
            if time.monotonic() >= next_reap_s:
                next_reap_s = time.monotonic() + _REAP_EVERY_S
                self._pool.reap_idle()
                self._history.tidy()
                self._recorder.say_unshown()
            if self._ledger.refused != refused and time.monotonic() >= next_refused_s:
                next_refused_s = time.monotonic() + _TICK_S
                logger.warning("queue_full", refused=self._ledger.refused - refused)
                refused = self._ledger.refused
            output.tidy()
            log.flush()
            self._notifier.status(self._line())
            if time.monotonic() >= next_feed_s:
                next_feed_s = time.monotonic() + feed_every_s
                self._feed_watchdog()

    def _feed_watchdog(self) -> None:
        """Say that the server is alive, if every thread has shown so. A broker that is away is no reason not to."""
        within_s = (self._notifier.watchdog_s or _UNWATCHED_S) / 2
        stuck = [
            *self._dispatcher.stuck(within_s),
            *self._admin.stuck(within_s),
            *self._watch_over.stuck(within_s),
            *self._gateway.stuck(within_s),
        ]
        if not stuck:
            self._notifier.alive()
        elif stuck != self._stuck or time.monotonic() > self._said_stuck_s + _SAY_STUCK_AGAIN_S:
            self._said_stuck_s = time.monotonic()
            logger.error("threads_stuck", threads=stuck)
        self._stuck = stuck

    def _read_settings_again(self) -> None:
        """Take over what may change while the server runs. Settings that can't be used change nothing."""
        self._notifier.reloading()
        try:
            reload = merged(self._config, configuration.load(self._config_file, os.environ))
        except (ConfigError, OSError) as error:
            logger.error("reload_refused", error=str(error))
        else:
            self._hand_over(reload.config)
            logger.info("reloaded", applied=reload.applied, restart=reload.restart)
        self._notifier.reloaded()

    def _hand_over(self, config: Config) -> None:
        """Give every room the configuration to go by; each takes it in one assignment, and none sees half of it."""
        self._config = config
        log.set_levels(config.log)
        output.limit(config.log.output_bytes_per_s)
        self._registry.reload(config.limits)
        self._ledger.reload(config.queue)
        self._history.reload(config.history)
        self._deployer.reload(config.uploads)
        self._environments.reload(config.uploads)
        self._signers.reload(config.uploads)
        self._recorder.reload(config.log.successes_per_s)
        self._dispatcher.reload(config)
        self._status.reload(config)
        self._admin.reload(config)

    def _line(self) -> str:
        mqtt, names = self._config.mqtt, self._registry.names()
        failing = sum(bool(self._pool.trouble(name)) for name in names)
        connected = "connected to" if self._gateway.up else "waiting for"
        running = self._dispatcher.running()
        return f"{connected} {mqtt.host}:{mqtt.port}, {len(names)} functions, {running} running, {failing} failing"

    def _shut_down(self) -> int:
        """Stop taking, finish what runs, say goodbye, flush: in this order, so that nothing is lost on the way."""
        logger.info("stopping", running=self._dispatcher.running(), waiting=self._dispatcher.waiting())
        self._notifier.stopping("stopping: what runs may finish", self._config.drain_s + _ENDING_S)
        now_s = time.monotonic()
        deadline_s = now_s + self._config.drain_s
        # What others of the group can run shall not wait for our return. The second half is for what then still runs.
        self._dispatcher.finish(self._gateway.leave_to_others(), now_s + self._config.drain_s / 2)
        self._gateway.pause()  # what is not taken now stays with the broker
        self._warmth.stop()
        self._dispatcher.stop(deadline_s)  # answers still go out
        self._admin.stop(deadline_s)
        self._gateway.stop()  # only now, because the answers went this way
        self._watch_over.stop()
        self._pool.close()
        self._forks.close()
        self._delegation.close()
        self._history.close()
        self._schedules.close()
        self._recorder.say_unshown()
        self._notifier.close()
        logger.info("stopped")
        return Exit.OK

    def _asked_to_stop(self, _number: int, _frame: FrameType | None) -> Any:
        if self._stop:  # asked twice: at once
            self._pool.interrupt()
            os._exit(Exit.FORCED)
        self._stop = True
        self._gateway.wake()

    def _asked_to_reload(self, _number: int, _frame: FrameType | None) -> Any:
        self._reload = True
        self._gateway.wake()


def _installed_version() -> str:
    """What the installation is called. importlib.metadata would say so too, and keep a megabyte for it."""
    found = (entry.name for folder in sys.path for entry in Path(folder).glob("tinyfaas-*.dist-info"))
    return next(found, "tinyfaas-unknown").removesuffix(".dist-info").partition("-")[2]
