"""Who may upload, and the secrets that functions ask for."""

from __future__ import annotations

import json
import stat
from pathlib import Path

from tinyfaas.cli.doctor.device import AS_ROOT, Device
from tinyfaas.cli.doctor.finding import Finding, fail, ok, skip, warn

_OF_THE_UNIT = "/etc/tinyfaas/secrets"  # what LoadCredential= of the shipped unit names
_BY_OTHERS = stat.S_IRWXO


def signers(device: Device) -> Finding:
    """Where uploads must be signed, `ssh-keygen` is there, and the file of signers names some and is root's alone."""
    if device.settings.problem:
        return skip("without the server's settings it is not known whether uploads must be signed")
    named = device.settings.config.uploads.allowed_signers
    if not named:
        return skip("uploads need not be signed: uploads.allowed_signers is not set")
    if device.program("ssh-keygen") is None:
        return fail("no ssh-keygen to check signatures with: no upload is taken", "sudo apt install openssh-client")
    file = device.at(named)
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        mode = file.stat().st_mode
    except PermissionError:
        return skip(f"this account may not read {named}", AS_ROOT)
    except OSError as error:
        return fail(f"{named}: {error.strerror}: no upload is taken", "write it, or correct uploads.allowed_signers")
    some = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not some:
        return fail(f"{named} names nobody: no upload is taken", f"add a line: NAME KEY-TYPE KEY, see {named}")
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        return warn(f"{named} can be changed by others than its owner", f"sudo chmod go-w {named}")
    return ok(f"{named}: {len(some)} signers")


def secrets(device: Device) -> Finding:
    """The secrets that functions ask for are there, in a folder that others can't look into."""
    settings = device.settings
    if settings.problem:
        return skip("without the server's settings it is not known where they are")
    places = [place for place in (settings.config.sandbox.secrets_dir, _OF_THE_UNIT if device.service else "") if place]
    try:
        wanted = _wanted(device.at(settings.config.data_dir / "functions.json"))
        there = {name for place in places for name in _names(device.at(place))}
        opened = [place for place in places if _is_open(device.at(place))]
    except PermissionError as error:
        return skip(f"this account may not look into {error.filename}", AS_ROOT)
    if missing := {name: function for name, function in wanted.items() if name not in there}:
        told = ", ".join(f"{name} (asked for by {function})" for name, function in sorted(missing.items()))
        place = places[0] if places else _OF_THE_UNIT
        return warn(f"not there: {told}", f"write each into a file of its name in {place}, then restart the server")
    if opened:
        return warn(f"others can look into {opened[0]}", f"sudo chmod -R go-rwx {opened[0]}")
    return ok(f"{len(there)} there, {len(wanted)} asked for") if there or wanted else skip("no function asks for any")


def _wanted(registry: Path) -> dict[str, str]:
    """The names of the secrets that current versions ask for, each with one function that does."""
    try:
        document = json.loads(registry.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return {
        name: function for function, entry in document.items() for version in entry["versions"]
        if version["version"] == entry["version"] for name in version["config"].get("secrets", ())
    }  # fmt: skip


def _names(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()] if folder.is_dir() else []


def _is_open(folder: Path) -> bool:
    """Whether others can read a file in it."""
    if not folder.is_dir() or not folder.stat().st_mode & _BY_OTHERS:
        return False
    return any(file.stat().st_mode & _BY_OTHERS for file in folder.iterdir())
