"""Python and what builds functions' environments."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from importlib import metadata
from pathlib import Path

from tinyfaas.cli.doctor.device import Device
from tinyfaas.cli.doctor.finding import Finding, fail, ok, skip, warn

OLDEST = (3, 11)
_NEEDED = {"paho": "paho-mqtt", "psutil": "psutil", "sdnotify": "sdnotify", "structlog": "structlog"}
_OLDEST_PIP = (22, 3)  # the first with --python
_PIWHEELS = "https://www.piwheels.org/simple"
_ARMV7 = ("armv6l", "armv7l", "armv8l", "aarch64")  # a 32-bit system may have a 64-bit kernel


def interpreter(_device: Device) -> Finding:
    """Python is 3.11 or newer, and the server's packages are installed."""
    told = f"{platform.python_version()}, {sys.executable}"
    if sys.version_info < OLDEST:
        return fail(told, "use Debian 12 or newer: tinyfaas needs Python 3.11")
    lacking = [package for module, package in _NEEDED.items() if importlib.util.find_spec(module) is None]
    if lacking:
        return fail(f"{told}, without {', '.join(lacking)}", f"{sys.executable} -m pip install {' '.join(lacking)}")
    return ok(told)


def builders(_device: Device) -> Finding:
    """`venv` is there, and pip or `ensurepip`: what an upload with requirements is built with."""
    if importlib.util.find_spec("venv") is None:
        return fail("the module venv is missing: no function can be built", "sudo apt install python3-venv")
    if importlib.util.find_spec("pip") is None:
        if importlib.util.find_spec("ensurepip") is None:
            return fail(
                "venv, but neither pip nor ensurepip: no requirements can be installed", "sudo apt install python3-venv"
            )
        return ok("venv, ensurepip; pip is set up anew in each environment")
    version = metadata.version("pip")
    if tuple(int(part) for part in version.split(".")[:2] if part.isdecimal()) < _OLDEST_PIP:
        return fail(f"venv, pip {version}: too old for --python", f"{sys.executable} -m pip install --upgrade pip")
    return ok(f"venv, pip {version}")


def piwheels(device: Device) -> Finding:
    """On 32-bit ARM, pip knows piwheels: few packages have wheels for it elsewhere, and compiling takes a Pi long."""
    if device.machine not in _ARMV7 or device.pointer_bits != 32:
        return skip(f"for 32-bit ARM only; this is {device.machine}, {device.pointer_bits} bit")
    home = os.environ.get("HOME", "")
    files = ("/etc/pip.conf", "/etc/xdg/pip/pip.conf", f"{home}/.config/pip/pip.conf", f"{home}/.pip/pip.conf")
    said = {file: device.text(file) or "" for file in files}
    said |= {name: os.environ.get(name, "") for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL")}
    said[str(Path(sys.prefix, "pip.conf"))] = device.text(f"{sys.prefix}/pip.conf") or ""
    known = [place for place, text in said.items() if "piwheels" in text]
    if known:
        return ok(f"in {known[0]}")
    return warn(
        "pip does not know it: packages without wheels for this machine are compiled",
        f"printf '[global]\\nextra-index-url={_PIWHEELS}\\n' | sudo tee -a /etc/pip.conf",
    )
