"""How the process and the device are, in plain numbers with the unit in the key; null where it can't be told."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil

_MODEL = Path("/proc/device-tree/model")


class Vitals:
    """psutil, asked for what an operator wants to know. CPU percentages are since the last time asked."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._process.cpu_percent()
        psutil.cpu_percent()

    def cpu(self) -> dict[str, Any]:
        """Load of the machine and share of this process."""
        load_1m, load_5m, load_15m = os.getloadavg()
        return {
            "count": len(os.sched_getaffinity(0)),
            "percent": psutil.cpu_percent(),
            "process_percent": self._process.cpu_percent(),
            "load_1m": round(load_1m, 2),
            "load_5m": round(load_5m, 2),
            "load_15m": round(load_15m, 2),
        }

    def memory(self, workers: Iterable[int], fork_server: int | None) -> dict[str, Any]:
        """Memory of the machine, of this process, of the fork server and of these workers, in bytes."""
        system = psutil.virtual_memory()
        swap = psutil.swap_memory()
        return {
            "total_bytes": system.total,
            "available_bytes": system.available,
            "used_percent": system.percent,
            "swap_used_bytes": swap.used,
            "process_rss_bytes": self._process.memory_info().rss,
            "fork_server_rss_bytes": _rss(fork_server) if fork_server else 0,
            "workers_rss_bytes": sum(_rss(pid) for pid in workers),
        }

    def device(self, data_dir: Path) -> dict[str, Any]:
        """What this is, how warm it is, and how much room its disk has."""
        disk = psutil.disk_usage(str(data_dir))
        return {
            "model": _model(),
            "machine": os.uname().machine,
            "temperature_c": _temperature(),
            "uptime_s": round(_uptime_s(), 1),
            "disk_total_bytes": disk.total,
            "disk_free_bytes": disk.free,
        }


def _rss(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def _temperature() -> float | None:
    sensors = psutil.sensors_temperatures()
    for name in ("cpu_thermal", "soc_thermal", "coretemp", *sensors):
        if sensors.get(name):
            return float(sensors[name][0].current)
    return None


def _model() -> str | None:
    try:
        return _MODEL.read_text(encoding="utf-8").rstrip("\0\n")
    except OSError:
        return None


def _uptime_s() -> float:
    return float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
