"""How the device is: its temperature, power, load, memory, disk and uptime, as the kernel tells them.

Whatever this device lacks, or a sandbox hides, is null.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

PROC = Path("/proc")
SYS = Path("/sys")

# Bits of the firmware's get_throttled. The same bits 16 places higher say that it was so since the kernel
# last looked. It looks every 2 s and resets them: they are news of now, not a memory of all since the boot.
FIRMWARE_BITS = {"under_voltage": 0, "frequency_capped": 1, "throttled": 2, "soft_temperature_limit": 3}
SEEN_LATELY = 16


def main() -> dict[str, str | float | bool | None]:
    """Everything that can be told, with the unit in the key."""
    return {
        "model": model(),
        "temperature_c": temperature_c(),
        **power(),
        "cpu_count": os.cpu_count(),
        "load_1m": number(PROC / "loadavg", word=0),
        "load_5m": number(PROC / "loadavg", word=1),
        "load_15m": number(PROC / "loadavg", word=2),
        **memory(),
        **disk(),
        "uptime_s": number(PROC / "uptime"),
    }


def model() -> str | None:
    """What the device calls itself: from the device tree on a Pi, from the firmware on a PC."""
    return text(PROC / "device-tree/model") or text(SYS / "class/dmi/id/product_name") or None


def temperature_c() -> float | None:
    """The processor's temperature in °C, or that of the first zone which has one."""
    zones = sorted(SYS.glob("class/thermal/thermal_zone*"))
    zones.sort(key=lambda zone: re.search("cpu|soc|pkg", text(zone / "type")) is None)
    readings_mc = (number(zone / "temp") for zone in zones)
    return next((round(value_mc / 1000, 1) for value_mc in readings_mc if value_mc is not None), None)


def power() -> dict[str, bool | None]:
    """Whether the supply is too weak, and whether the processor is slowed down for that or for heat."""
    flags = firmware_flags()
    seen = {
        name: None if flags is None else bool(flags & (1 << bit | 1 << bit + SEEN_LATELY))
        for name, bit in FIRMWARE_BITS.items()
    }
    for chip in SYS.glob("class/hwmon/hwmon*"):
        alarm = number(chip / "in0_lcrit_alarm")
        if text(chip / "name") == "rpi_volt" and alarm is not None:
            seen["under_voltage"] = bool(alarm)
    return seen


def firmware_flags() -> int | None:
    """The bits of get_throttled, whose folder has a name of its own on a Pi 5.

    Some kernels call the file deprecated, once a boot in their log, but nothing else tells of throttling.
    """
    for file in SYS.glob("devices/platform/soc*/soc*:firmware/get_throttled"):
        try:
            return int(text(file), 16)
        except ValueError:
            continue
    return None


def memory() -> dict[str, int | None]:
    """Memory that there is, and that programs can still get without swapping, in bytes."""
    table = text(PROC / "meminfo")
    return {
        "memory_total_bytes": meminfo_bytes(table, "MemTotal"),
        "memory_available_bytes": meminfo_bytes(table, "MemAvailable"),
    }


def meminfo_bytes(table: str, name: str) -> int | None:
    """One line of /proc/meminfo, in bytes."""
    found = re.search(rf"^{name}:\s*(\d+) kB$", table, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def disk() -> dict[str, int | None]:
    """Room on the disk that holds the function's state, in bytes; a sandbox may show another one as `/`."""
    try:
        usage = shutil.disk_usage(os.environ.get("TINYFAAS_STATE_DIR", "/"))
    except OSError:
        return {"disk_total_bytes": None, "disk_free_bytes": None}
    return {"disk_total_bytes": usage.total, "disk_free_bytes": usage.free}


def number(file: Path, word: int = 0) -> float | None:
    """A word of a file as a number; None if there is none."""
    try:
        return float(text(file).split()[word])
    except (IndexError, ValueError):
        return None


def text(file: Path) -> str:
    """What a file says; nothing where it is missing, hidden or has no answer now."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return ""
