"""The server on this device: its unit, its settings, and what it says of itself."""

from __future__ import annotations

import argparse
import dataclasses
import errno
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from tinyfaas import config
from tinyfaas.cli.doctor.device import AS_ROOT, UNIT, Device, Settings
from tinyfaas.cli.doctor.finding import Finding, fail, ok, skip, warn
from tinyfaas.errors import ConfigError

_ASKED = "LoadState,ActiveState,UnitFileState,Result,NRestarts,MainPID,User,ControlGroup,Delegate,Environment,ExecStart"
_NO_SERVICE = "not running as a service"
_ANSWER_S = 4.0


def here(args: argparse.Namespace, environ: Mapping[str, str]) -> Device:
    """This device, with the settings that its service has, and what variables and flags override of them."""
    settings, service = configured(args.config, environ)
    mqtt = settings.mqtt
    mqtt = dataclasses.replace(mqtt, host=args.host or mqtt.host, port=args.port or mqtt.port)
    settings = dataclasses.replace(settings, config=dataclasses.replace(settings.config, mqtt=mqtt))
    return Device(settings=settings, service=service)


def configured(file: Path | None, environ: Mapping[str, str]) -> tuple[Settings, dict[str, str]]:
    """The settings that the server on this device has, and what systemd says of its unit.

    `file` goes before the one that the unit names, and `environ` before its variables.
    """
    service = _unit(Device())
    variables = {**_variables(Device(), service), **environ}
    ours = {name: value for name, value in variables.items() if name.startswith("TINYFAAS_")}
    named = re.search(r"--config[ =](\S+)", service.get("ExecStart", ""))
    found = file or (named and named[1]) or ours.get("TINYFAAS_CONFIG")
    return _settings(Path(found) if found else None, ours), service


def configuration(device: Device) -> Finding:
    """The server's settings, file and variables, can be used. For those of a running service, ask as root."""
    settings = device.settings
    if settings.is_hidden:
        return skip(f"{settings.problem}; the checks below take the defaults", AS_ROOT)
    if settings.problem:
        return fail(settings.problem, f"correct it, then see: tinyfaas config{_flag(settings)}")
    return ok(settings.origin)


def unit(device: Device) -> Finding:
    """`tinyfaas.service` runs, and will run after the next start of the device."""
    service = device.service
    if not service:
        return skip(_NO_SERVICE)
    state, restarts = service.get("ActiveState", ""), service.get("NRestarts", "0")
    told = f"{UNIT} is {state}" + (f", restarted {restarts} times" if restarts not in ("", "0") else "")
    if state == "failed" or service.get("Result", "success") != "success":
        return fail(f"{told}, last result {service.get('Result')}", f"see why: journalctl -u {UNIT} -n 50")
    if state not in ("active", "activating", "reloading"):
        return warn(told, f"sudo systemctl enable --now {UNIT}")
    if service.get("UnitFileState") == "disabled":
        return warn(f"{told}, and will not be started with the device", f"sudo systemctl enable {UNIT}")
    return ok(told)


def delegation(device: Device) -> Finding:
    """The service has a cgroup v2 subtree of its own, with the controllers for memory, CPU and processes."""
    service = device.service
    if not service:
        return skip(_NO_SERVICE)
    folder = f"/etc/systemd/system/{UNIT}.d"
    delegate = (
        f"sudo mkdir -p {folder} && printf '[Service]\\nDelegate=cpu memory pids\\n' |"
        f" sudo tee {folder}/delegate.conf\nsudo systemctl daemon-reload && sudo systemctl restart {UNIT}"
    )
    if service.get("Delegate") != "yes":
        return warn(
            f"{UNIT} has no cgroup subtree of its own: limits are held by looking at what workers use", delegate
        )
    group = service.get("ControlGroup", "")
    controllers = device.text(f"/sys/fs/cgroup{group}/cgroup.controllers") if group else None
    if controllers is None:
        return skip(f"{UNIT} does not run, or not below cgroup v2: its controllers can't be told")
    lacking = sorted({"cpu", "memory", "pids"} - set(controllers.split()))
    if lacking:
        there = (device.text("/sys/fs/cgroup/cgroup.controllers") or "").split()
        withheld = set(lacking) & set(there)  # the others are not the unit's fault
        return warn(
            f"delegated, without the controllers {', '.join(lacking)}",
            delegate if withheld else "they are not to be had on this system: see the check `memory cgroup`",
        )
    return ok(f"delegated: {controllers}")


def answer(device: Device) -> Finding:
    """The running server answers `status`, and which mechanisms hold its limits."""
    from tinyfaas.cli.client import Inquiry, exchange
    from tinyfaas.cli.failures import Absent, Failed, NoAnswer
    from tinyfaas.cli.show import duration
    from tinyfaas.protocol import Topics

    settings = device.settings
    if settings.problem:
        return skip("without its settings it can't be found")
    node, mqtt = settings.config.node.name, settings.mqtt
    topics = Topics(mqtt.base_topic, mqtt.response_topic)
    question = Inquiry(
        topic=topics.admin_prefix + "status",
        body={"node": node},
        answer_topic=topics.admin_answer("status", ""),
        error_topic=topics.error,
        timeout_s=_ANSWER_S,
        first_sign_s=_ANSWER_S,
    )
    try:
        *_, heard = exchange(dataclasses.replace(mqtt, connect_timeout_s=_ANSWER_S), question)
    except (Failed, ConfigError) as error:
        is_silent = isinstance(error, Absent | NoAnswer)
        if is_silent and device.service.get("ActiveState") == "active":
            return fail(
                f"{UNIT} is active, and does not answer: {error}",
                f"see why: journalctl -u {UNIT} -n 50\nsudo systemctl restart {UNIT}",
            )
        return skip(f"no answer of a server named {node}: {error}")
    said = heard.body
    limits = said.get("limits", {})
    told = f"{said.get('node')}, version {said.get('version')}, up {duration(said.get('uptime_s', 0))}; " + ", ".join(
        f"{name.replace('_', ' ')}: {mechanism}" for name, mechanism in limits.items()
    )
    if limits.get("sandbox") == "none" and settings.config.sandbox.mode != "off":
        return warn(told, "functions run without a sandbox: see the checks `user namespaces` and `bubblewrap`")
    return ok(told)


def _unit(device: Device) -> dict[str, str]:
    """What systemd says of the unit; empty where it does not know it, or is not there."""
    if not device.at("/run/systemd/system").is_dir():
        return {}
    said = device.output("systemctl", "show", UNIT, f"--property={_ASKED}") or ""
    found = dict(line.partition("=")[::2] for line in said.splitlines())
    return found if found.get("LoadState") == "loaded" else {}


def _settings(file: Path | None, environ: Mapping[str, str]) -> Settings:
    try:
        loaded = config.load(file, environ)
    except (ConfigError, OSError) as error:
        # What this account may not read may be all right for the server's.
        is_hidden = os.strerror(errno.EACCES) in str(error)
        return Settings(origin=str(file or ""), problem=" ".join(str(error).split()), is_hidden=is_hidden)
    origins = sorted(set(loaded.origins.values()) - {"host name"}, key=lambda origin: ("/" not in origin, origin))
    return Settings(config=loaded, origin=", ".join(origins) or "all defaults")


def _flag(settings: Settings) -> str:
    return f" --config {settings.origin}" if settings.origin else ""


def _variables(device: Device, service: Mapping[str, str]) -> dict[str, str]:
    """The service's variables: those of its process where they are ours to read, else those that its unit sets."""
    try:
        words = Path(f"/proc/{service.get('MainPID', '0')}/environ").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        words = _split(service.get("Environment", ""))
    variables = dict(word.partition("=")[::2] for word in words if "=" in word)
    # Credentials are there while the service runs; a server that does not start needs looking at most.
    for name, source in re.findall(r"^LoadCredential=([^:\s]+):(/\S+)$", _unit_text(device, service), re.MULTILINE):
        passed = f"/run/credentials/{UNIT}/{name}"
        if not os.path.exists(passed):  # noqa: PTH110  (no error for a hidden folder)
            variables = {key: source if value == passed else value for key, value in variables.items()}
    return variables


def _unit_text(device: Device, service: Mapping[str, str]) -> str:
    return (device.output("systemctl", "cat", UNIT) or "") if service else ""


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return []
