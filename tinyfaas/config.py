"""The server's configuration: TOML file and `TINYFAAS_*` variables into one frozen `Config`, read once.

Every setting is a field with default, range and one line of documentation; `docs/configuration.md` is printed from
them. A variable overrides the file; anything that can't be used raises `ConfigError` before a thread has started.
"""

from __future__ import annotations

import dataclasses
import os
import re
import socket
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinyfaas.errors import ConfigError
from tinyfaas.events import ROOMS
from tinyfaas.fields import SECRET_MASK, allowed, build, checked, fields_of, from_text, setting, type_of
from tinyfaas.model import FUNCTION_NAME, Limits

DEFAULT_FILE = Path("/etc/tinyfaas/tinyfaas.toml")
_TOPIC = r"[^#+\x00]+"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"


@dataclass(frozen=True, slots=True)
class Mqtt:
    """The broker and how to speak to it."""

    host: str = setting("localhost", "Broker's host name or address.")
    port: int = setting(1883, "Broker's port; with TLS usually 8883.", low=1, high=65535)
    protocol: str = setting("5", "MQTT version.", choices=("5", "3.1.1"))
    username: str = setting("", "Account at the broker; empty: anonymous.")
    password: str = setting("", "Its password. Better: `password_file`.", secret=True)
    password_file: str = setting("", "File that holds the password, such as a systemd credential.")
    client_id: str = setting("", "MQTT client id; empty: `tinyfaas-<node>`.", pattern=r"[A-Za-z0-9_.-]{1,64}")
    base_topic: str = setting("faas", "Where all topics begin.", pattern=_TOPIC)
    response_topic: str = setting("", "Where answers go; empty: `<base_topic>/response`.", pattern=_TOPIC)
    response_prefixes: tuple[str, ...] = setting(
        (),
        "Where a request's own Response Topic may lie (MQTT 5); empty: below the response topic, and `reply/`.",
        reload=True,
    )
    keepalive_s: int = setting(30, "Seconds between signs of life.", low=5, high=3600)
    connect_timeout_s: float = setting(10.0, "Seconds one attempt to connect may take.", low=1.0, high=120.0)
    reconnect_max_s: float = setting(
        30.0, "Longest pause between attempts to connect; the first is 0.5 s.", low=0.5, high=3600.0
    )
    session_expiry_s: int = setting(
        604_800, "Seconds the broker keeps our session and its queue while we are away.", low=0
    )
    ack_order: str = setting(
        "ready",
        "Acknowledge in the order of the answers, or in that of receipt as MQTT asks.",
        choices=("ready", "received"),
    )
    tls: bool = setting(False, "Encrypt the connection.")
    tls_ca_file: str = setting("", "CA that must have signed the broker's certificate; empty: the system's.")
    tls_cert_file: str = setting("", "Our own certificate, where the broker asks for one.")
    tls_key_file: str = setting("", "Its key.")


@dataclass(frozen=True, slots=True)
class Node:
    """Who this server is among others."""

    name: str = setting(
        "", "This node's name in answers and presence; empty: the host's name.", pattern=_NAME, env="TINYFAAS_NODE"
    )
    group: str = setting(
        "", "Nodes of one group share the invocations, see [fleet-sharing.md](fleet-sharing.md); empty: none.",
        pattern=_NAME,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Queue:
    """What the server holds unanswered; beyond it QoS 1 stays with the broker and QoS 0 is answered `overloaded`."""

    max_requests: int = setting(10_000, "Requests held, waiting or running.", low=1, high=60_000)
    max_bytes: int = setting(33_554_432, "Bytes of payload held.", low=65_536, reload=True)


@dataclass(frozen=True, slots=True)
class Pool:
    """Warm workers."""

    idle_s: float = setting(300.0, "Seconds after which an idle worker is ended.", low=1.0)
    max_idle: int = setting(16, "Idle workers kept over all functions; the longest idle goes first.", low=0, high=1024)
    min_available_mb: int = setting(
        48, "Memory in MiB that shall be available on the device; with less, idle workers are ended.", low=0
    )
    start_timeout_s: float = setting(
        30.0, "Seconds a worker may take to start and import its function.", low=0.5, high=3600.0
    )
    backoff_max_s: float = setting(
        60.0, "Longest pause before a function whose workers die at start is tried again.", low=1.0
    )


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What closes workers in."""

    mode: str = setting(
        "auto",
        "auto: bubblewrap where it can be had; required: else no function runs; off: none.",
        choices=("auto", "required", "off"),
    )
    seccomp: bool = setting(True, "Refuse system calls that no function needs, where libseccomp can be had.")
    secrets_dir: str = setting(
        "", "Folder of the secrets that functions may ask for, a file each; systemd's credentials are looked at too."
    )


@dataclass(frozen=True, slots=True)
class Uploads:
    """Building what is uploaded."""

    threads: int = setting(2, "Functions built at once.", low=1, high=16)
    max_bytes: int = setting(4_194_304, "Largest upload in bytes of payload.", low=1024, high=268_435_455, reload=True)
    build_timeout_s: float = setting(900.0, "Seconds an environment may take to build.", low=1.0, reload=True)
    build_memory_mb: int = setting(
        256, "Memory in MiB that building one may use, its /tmp included.", low=64, reload=True
    )
    build_max_processes: int = setting(
        64, "Processes and threads that building one may have at once.", low=8, reload=True
    )
    build_disk_mb: int = setting(
        1024, "Size in MiB of an environment with all that is needed to build it.", low=32, reload=True
    )
    only_binary: bool = setting(False, "Install wheels only: nothing that would run code to be built.", reload=True)
    wheel_house: str = setting("", "Folder with wheels to install from; empty: none.", pattern=r"/.*", reload=True)
    no_index: bool = setting(False, "Ask no package index: install from `wheel_house` alone.", reload=True)
    keep_versions: int = setting(
        5, "Versions kept for a rollback, the current one included.", low=1, high=100, reload=True
    )
    allowed_signers: str = setting(
        "", "OpenSSH file of allowed signers: an upload must be signed by one of them; empty: none need be signed.",
        reload=True,
    )  # fmt: skip
    signature_max_age_s: float = setting(
        3600.0, "Seconds after its `signed_at` that an upload is still taken.", low=1.0, high=315_360_000.0, reload=True
    )
    signature_max_ahead_s: float = setting(
        300.0, "Seconds that a `signed_at` may be ahead of this device's clock.", low=0.0, high=86_400.0, reload=True
    )


@dataclass(frozen=True, slots=True)
class History:
    """What is remembered of executions, in `logs.json`."""

    per_function: int = setting(100, "Newest records kept of each function.", low=1, high=10_000, reload=True)
    recent: int = setting(4_000, "Newest records kept over all functions.", low=100, high=1_000_000, reload=True)
    max_bytes: int = setting(16_777_216, "Size in bytes at which logs.json is trimmed.", low=65_536, reload=True)
    dead_letters: int = setting(100, "Dead letters kept of each function.", low=1, high=10_000)
    cut_bytes: int = setting(
        1_024, "Arguments and results longer than this many bytes of JSON are cut in the history.", low=16
    )


@dataclass(frozen=True, slots=True)
class Log:
    """The server's own log, see [logging.md](logging.md)."""

    level: str = setting("info", "Least severity shown.", choices=("debug", "info", "warning", "error"), reload=True)
    levels: tuple[str, ...] = setting(
        (),
        "Other levels for one module or one function, such as `gateway=debug` and `function.thermostat=warning`.",
        reload=True,
    )
    format: str = setting(
        "auto",
        "How; auto: coloured on a terminal, with fields under systemd, else JSON lines.",
        choices=("auto", "terminal", "json", "journal"),
    )
    successes_per_s: float = setting(
        100.0, "Successful calls shown in a second; beyond that they are only counted.", low=0.1, high=1e6, reload=True
    )
    output_bytes_per_s: float = setting(
        16_384.0,
        "Bytes a second that one function may print into the log, each line counting 100 more; the rest is counted.",
        low=100.0,
        high=1e9,
        reload=True,
    )


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that can be set, frozen before the first thread starts."""

    functions_dir: Path = setting(Path("/var/lib/tinyfaas/functions"), "Code, environments and state of the functions.")
    data_dir: Path = setting(Path("/var/lib/tinyfaas"), "Registry and history.")
    workers: int = setting(0, "Dispatch threads; 0: one for each CPU, at least 2.", low=0, high=256)
    drain_s: float = setting(
        20.0, "Seconds running functions get to finish at a stop.", low=0.0, high=3600.0, reload=True
    )
    mqtt: Mqtt = field(default_factory=Mqtt)
    node: Node = field(default_factory=Node)
    queue: Queue = field(default_factory=Queue)
    pool: Pool = field(default_factory=Pool)
    limits: Limits = field(default_factory=Limits)
    sandbox: Sandbox = field(default_factory=Sandbox)
    uploads: Uploads = field(default_factory=Uploads)
    history: History = field(default_factory=History)
    log: Log = field(default_factory=Log)
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def threads(self) -> int:
        """Dispatch threads in force."""
        return self.workers or max(2, len(os.sched_getaffinity(0)))


SECTIONS: dict[str, type[Any]] = {
    "mqtt": Mqtt, "node": Node, "queue": Queue, "pool": Pool, "limits": Limits, "sandbox": Sandbox, "uploads": Uploads,
    "history": History, "log": Log,
}  # fmt: skip


ALIASES = {"upload": "uploads"}  # what one would write for a table


def settings() -> Iterator[tuple[str, str, Any, dataclasses.Field[Any]]]:
    """Every setting as section (empty at the top), name, type and field, in the order of the documentation."""
    for name, declared in fields_of(Config).items():
        if declared.metadata:
            yield "", name, type_of(Config, name), declared
    for section, kind in SECTIONS.items():
        for name, declared in fields_of(kind).items():
            yield section, name, type_of(kind, name), declared


def reloaded(section: str, declared: dataclasses.Field[Any]) -> bool:
    """Whether a change is taken over while the server runs; that of any limit is, as it is of a function's own."""
    return section == "limits" or bool(declared.metadata["reload"])


def variable(section: str, name: str, declared: dataclasses.Field[Any]) -> str:
    """The environment variable that overrides a setting."""
    return str(declared.metadata["env"]) or "_".join(part.upper() for part in ("tinyfaas", section, name) if part)


def load(path: Path | None, environ: Mapping[str, str]) -> Config:
    """Read the file (`path`, or the default one where it exists) and the variables into a `Config`.

    Raises `ConfigError` with one line that names key, source, and what is allowed.
    """
    file = path or DEFAULT_FILE
    return assemble(_read(file, must_exist=path is not None), str(file), environ)


def assemble(tables: Mapping[str, Any], file: str, environ: Mapping[str, str]) -> Config:
    """A `Config` from what a file holds, which errors call `file`, and the variables. Raises `ConfigError`."""
    origins: dict[str, str] = {}
    values = _from_file(tables, file, origins)
    _override(values, environ, origins)
    sections: dict[str, Any] = {
        section: build(kind, values[section], f"{section}.") for section, kind in SECTIONS.items()
    }
    sections["node"] = _named(sections["node"], origins)
    sections["mqtt"] = _with_prefixes(_with_password(sections["mqtt"], origins))
    if sections["node"].group and sections["mqtt"].protocol != "5":
        raise ConfigError(
            f"{origins['node.group']}: node.group needs shared subscriptions, which only MQTT 5 has, "
            f'and mqtt.protocol is "{sections["mqtt"].protocol}"'
        )
    try:
        levels_of(sections["log"])
    except ConfigError as error:
        raise ConfigError(f"{origins['log.levels']}: {error}") from None
    top: dict[str, Any] = values[""]
    return Config(**top, **sections, origins=origins)


def levels_of(log: Log) -> dict[str, str]:
    """The levels that differ from the general one, by module, or by `function.<name>`. Raises `ConfigError`."""
    levels: dict[str, str] = {}
    for entry in log.levels:
        name, _, level = entry.partition("=")
        function = name.removeprefix("function.")
        if name not in ROOMS and (function == name or FUNCTION_NAME.fullmatch(function) is None):
            raise ConfigError(
                f"log.levels: {entry!r}: write function.<name>, or one of {', '.join(ROOMS)}, before the ="
            )
        if level not in (choices := fields_of(Log)["level"].metadata["choices"]):
            raise ConfigError(f"log.levels: {entry!r}: write one of {', '.join(choices)} after the =")
        levels[name] = level
    return levels


def effective(config: Config) -> Iterator[tuple[str, object, str]]:
    """Every setting as dotted key, value in force (secrets masked), and where it came from."""
    for section, name, _, declared in settings():
        key = f"{section}.{name}" if section else name
        value = getattr(getattr(config, section) if section else config, name)
        shown = SECRET_MASK if declared.metadata["secret"] and value else value
        yield key, str(shown) if isinstance(shown, Path) else shown, config.origins.get(key, "default")


def _read(file: Path, *, must_exist: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not must_exist:
            return {}
        raise ConfigError(f"{file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, or nested without end
        raise ConfigError(f"{file}: {error}") from None


def _from_file(tables: Mapping[str, Any], file: str, origins: dict[str, str]) -> dict[str, dict[str, object]]:
    top = {name: type_of(Config, name) for section, name, _, _ in settings() if not section}
    values: dict[str, dict[str, object]] = {section: {} for section in ("", *SECTIONS)}
    for written, value in tables.items():
        key = ALIASES.get(written, written)
        if key in SECTIONS and isinstance(value, dict):
            known = fields_of(SECTIONS[key])
            for name, inner in value.items():
                where = f"{file}: {key}.{name}"
                if name not in known:
                    raise ConfigError(f"{where}: no such setting; [{key}] has: {', '.join(known)}")
                values[key][name] = checked(type_of(SECTIONS[key], name), known[name], inner, where)
                origins[f"{key}.{name}"] = file
        elif key == "node":  # `node = "pi-01"` is what one would write
            values["node"]["name"] = checked(str, fields_of(Node)["name"], value, f"{file}: node")
            origins["node.name"] = file
        elif key in top:
            values[""][key] = checked(top[key], fields_of(Config)[key], value, f"{file}: {key}")
            origins[key] = file
        elif key in SECTIONS:
            raise ConfigError(f"{file}: {key}: is a table, written [{key}]")
        else:
            raise ConfigError(f"{file}: {key}: no such setting; there are: {', '.join((*top, *SECTIONS))}")
    return values


def _override(values: dict[str, dict[str, object]], environ: Mapping[str, str], origins: dict[str, str]) -> None:
    known = {
        variable(section, name, declared): (section, name, kind, declared)
        for section, name, kind, declared in settings()
    }
    for name in sorted(environ):
        if not name.startswith("TINYFAAS_") or name in ENVIRONMENT_OF_OTHERS:
            continue
        if name not in known:
            raise ConfigError(f"{name}: no such setting; docs/configuration.md lists them")
        section, key, kind, declared = known[name]
        values[section][key] = checked(kind, declared, from_text(kind, environ[name]), name)
        origins[f"{section}.{key}" if section else key] = name


# Variables of ours that are no settings of the server: the tests' and the command line's.
ENVIRONMENT_OF_OTHERS = frozenset(
    {"TINYFAAS_TEST_PYTHON", "TINYFAAS_CONFIG", "TINYFAAS_PROFILE", "TINYFAAS_SIGN_KEY", "TINYFAAS_DEBUG_FREEZE"}
)


def _named(node: Node, origins: dict[str, str]) -> Node:
    if node.name:
        return node
    origins["node.name"] = "host name"
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()).strip("-._")[:63]
    return dataclasses.replace(node, name=host or "node")


def _with_password(mqtt: Mqtt, origins: dict[str, str]) -> Mqtt:
    if not mqtt.password_file:
        return mqtt
    try:
        password = Path(mqtt.password_file).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"mqtt.password_file: {mqtt.password_file}: {error}") from None
    origins["mqtt.password"] = mqtt.password_file
    return dataclasses.replace(mqtt, password=password)


def _with_prefixes(mqtt: Mqtt) -> Mqtt:
    response = mqtt.response_topic or f"{mqtt.base_topic}/response"
    return dataclasses.replace(mqtt, response_prefixes=mqtt.response_prefixes or (f"{response}/", "reply/"))


def described() -> Iterator[tuple[str, str, str, str, str, bool]]:
    """Every setting as key, variable, what is allowed, default, documentation and whether a reload takes it over."""
    for section, name, kind, declared in settings():
        default = declared.default
        shown = (
            ", ".join(default) if isinstance(default, tuple) else str(default).lower() if kind is bool else str(default)
        )
        key = f"{section}.{name}" if section else name
        yield (
            key,
            variable(section, name, declared),
            allowed(kind, declared),
            shown,
            declared.metadata["doc"],
            reloaded(section, declared),
        )
