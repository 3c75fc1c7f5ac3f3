"""What a mosquitto on this device was told: a handful of options, and never a secret."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tinyfaas.cli.doctor.device import Device

DEFAULTS = {
    "persistence": "false",
    "autosave_interval": "1800",
    "max_queued_messages": "1000",
    "max_inflight_messages": "20",
    "set_tcp_nodelay": "false",
}
PACKAGED = "/etc/mosquitto/mosquitto.conf"
_STOCK_PORT = 1883


@dataclass(frozen=True, slots=True)
class Configuration:
    """The options of `DEFAULTS` that are set, the ports it listens on, and the file where that begins."""

    file: str
    values: dict[str, str]
    ports: set[int]

    @property
    def is_packaged(self) -> bool:
        """Whether it is the one that Debian's package installs and its service reads."""
        return self.file == PACKAGED

    def value(self, name: str) -> str:
        """An option's value in force."""
        return self.values.get(name, DEFAULTS[name])

    def number(self, name: str) -> int:
        """The same as a number; what is none counts as the default, as a broker with it would not start."""
        text = self.value(name)
        return int(text) if text.isdecimal() else int(DEFAULTS[name])


def configuration(device: Device, port: int) -> Configuration | str:
    """The configuration of the mosquitto that listens on this port, or why it can't be told."""
    hidden = ""
    for shown, file in _candidates(device):
        try:
            found = _read(device, shown, file)
        except PermissionError as error:
            hidden = hidden or f"not readable as this user: {error.filename}"
            continue
        except OSError:
            continue
        if port in found.ports:
            return found
    return hidden or f"no configuration of a mosquitto that listens on port {port} was found on this device"


def _candidates(device: Device) -> Iterator[tuple[str, Path]]:
    """The files that running brokers were started with, each as it was named and where it is; then the package's."""
    for folder in device.find("/proc/[0-9]*"):
        if device.text(f"/proc/{folder.name}/comm") != "mosquitto":
            continue
        words = (device.text(f"/proc/{folder.name}/cmdline") or "").split("\0")
        for flag, name in pairwise(words):
            if flag in ("-c", "--config-file"):
                yield name, device.at(name) if name.startswith("/") else folder / "cwd" / name
    yield PACKAGED, device.at(PACKAGED)


def _read(device: Device, shown: str, file: Path) -> Configuration:
    values: dict[str, str] = {}
    ports: set[int] = set()
    for key, value in _options(device, file):
        if key in DEFAULTS:
            values[key] = value.lower() if value.lower() in ("true", "false") else value
        elif key in ("listener", "port"):
            number = value.split()[0]
            ports |= {int(number)} if number.isdecimal() else set()
    return Configuration(shown, values, ports or {_STOCK_PORT})


def _options(device: Device, file: Path, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Each line as option and value, those of included folders in their place; raises `OSError`."""
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.strip().partition(" ")
        value = value.strip()
        if key == "include_dir" and value and depth == 0:
            folder = device.at(value)
            for each in sorted(folder.iterdir()) if folder.is_dir() else []:
                if each.suffix == ".conf":
                    yield from _options(device, each, depth + 1)
        elif key and not key.startswith("#") and value:
            yield key, value
