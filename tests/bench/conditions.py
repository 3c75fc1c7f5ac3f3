"""Under which conditions it was measured; nothing that names this machine or a place on it."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from tests.bench.peers import CACHE
from tests.bench.stage import Stage
from tests.harness.installation import CHECKOUT


def conditions(stage: Stage) -> dict[str, str]:
    """In the order of the table."""
    found = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "tinyfaas": _said("git", "-C", str(CHECKOUT), "describe", "--always", "--dirty"),
        "CPU": _cpu(),
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.1f} GB",
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": _said(str(stage.grounds.installation.python), "--version").removeprefix("Python "),
        "broker": _said("mosquitto", "-h").partition("\n")[0],
        "load average at the start": f"{os.getloadavg()[0]:.2f}",
        "way of measuring": "quick" if stage.quick else "full",
        **_mechanisms(stage),
    }
    return {name: value for name, value in found.items() if value}


def conditions_after(stage: Stage) -> dict[str, str]:
    """What is known only at the end: the peers may have been installed meanwhile."""
    found = {"load average at the end": f"{os.getloadavg()[0]:.2f}"}
    if stage.with_peers:
        found |= {
            "Node": _said("node", "--version"),
            "Node-RED": _version_in(CACHE / "node-red" / "node_modules" / "node-red" / "package.json"),
            "AppDaemon": _appdaemon(),
        }
    return {name: value for name, value in found.items() if value}


def _mechanisms(stage: Stage) -> dict[str, str]:
    """What holds functions here, as the server itself says."""
    with stage.server() as server, stage.client(server.base) as client:
        limits = client.request(f"{server.base}/admin/status").get("limits", {})
    return {f"limit: {name}": str(value) for name, value in limits.items() if isinstance(value, str | bool)}


def _cpu() -> str:
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    found = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1] if found else platform.machine()


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def _version_in(package: Path) -> str:
    found = re.search(r'"version":\s*"([^"]+)"', package.read_text(encoding="utf-8")) if package.exists() else None
    return found[1] if found else ""


def _appdaemon() -> str:
    folders = list((CACHE / "appdaemon").glob("lib/python3*/site-packages/appdaemon-*.dist-info"))
    return folders[0].name.removeprefix("appdaemon-").removesuffix(".dist-info") if folders else ""
