"""Power, heat, clock and memory."""

from __future__ import annotations

import ctypes

from tinyfaas.cli.doctor.device import Device
from tinyfaas.cli.doctor.finding import Finding, fail, ok, skip, warn
from tinyfaas.cli.show import size

_THROTTLED = "/sys/devices/platform/soc/soc:firmware/get_throttled"
_UNDER_VOLTAGE = 0  # bits now; 16 higher: since the start
_HEAT = {1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
_SINCE = 16
_HOT_C, _TOO_HOT_C = 80.0, 85.0  # where a Pi begins to slow down, and where it slows down all it can
_SMALL_BYTES = 1024**3
_TIME_ERROR = 5  # what adjtimex returns for a clock that nobody keeps right


def under_voltage(device: Device) -> Finding:
    """The power supply holds its voltage, now and since the start. Too little ruins SD cards."""
    bits = _throttled(device)
    alarms = [
        device.text(f"/sys/class/hwmon/{folder.name}/in0_lcrit_alarm")
        for folder in device.find("/sys/class/hwmon/*")
        if device.text(f"/sys/class/hwmon/{folder.name}/name") == "rpi_volt"
    ]
    if bits is None and not alarms:
        return _untold(device)
    fix = "use the power supply made for this model (5.1 V) and a short, thick cable; see what USB devices draw"
    if "1" in alarms or (bits or 0) >> _UNDER_VOLTAGE & 1:
        return fail("under-voltage now", fix)
    if (bits or 0) >> (_UNDER_VOLTAGE + _SINCE) & 1:
        return warn("under-voltage since the start, not now", fix)
    return ok("none since the start" if bits is not None else "none now")


def throttling(device: Device) -> Finding:
    """The processor runs as fast as it may: it was not slowed down since the start."""
    bits = _throttled(device)
    if bits is None:
        return _untold(device)
    now = [name for bit, name in _HEAT.items() if bits >> bit & 1]
    since = [name for bit, name in _HEAT.items() if bits >> (bit + _SINCE) & 1]
    if not now and not since:
        return ok("none since the start")
    told = f"now: {', '.join(now)}" if now else f"since the start: {', '.join(since)}"
    return warn(told, "a heat sink or fan, and enough voltage; calls take longer while it lasts")


def temperature(device: Device) -> Finding:
    """The processor is below 80 °C, where a Pi begins to slow down."""
    zones = {
        device.text(f"/sys/class/thermal/{zone.name}/type") or "": device.text(f"/sys/class/thermal/{zone.name}/temp")
        for zone in device.find("/sys/class/thermal/thermal_zone*")
    }
    degrees = {kind: int(text) / 1000 for kind, text in zones.items() if text and text.lstrip("-").isdecimal()}
    if not degrees:
        return skip("this device tells none")
    warmest = degrees.get("cpu-thermal", max(degrees.values()))
    fix = "a heat sink or a fan, and air around the case"
    if warmest >= _TOO_HOT_C:
        return fail(f"{warmest:.1f} °C", fix)
    return warn(f"{warmest:.1f} °C", fix) if warmest >= _HOT_C else ok(f"{warmest:.1f} °C")


def clock(device: Device) -> Finding:
    """The clock is kept right by a time server. Without a real-time clock it is wrong until that is reached."""
    keeps = "a real-time clock" if device.find("/sys/class/rtc/rtc*") else "no real-time clock"
    if device.at("/run/systemd/timesync/synchronized").exists() or (device.is_here and _is_kept()):
        return ok(f"synchronised; {keeps}")
    told = f"not synchronised; {keeps}"
    if keeps.startswith("no "):
        told += ": times in the history are wrong, and TLS may fail"
    return warn(told, "sudo timedatectl set-ntp true; then: timedatectl timesync-status")


def memory(device: Device) -> Finding:
    """There is memory for one more function (`limits.memory_mb`), and swap where there is less than 1 GiB in all."""
    lines = [line.split() for line in (device.text("/proc/meminfo") or "").splitlines()]
    bytes_of = {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if len(words) >= 2}
    if not {"MemTotal", "MemAvailable"} <= bytes_of.keys():
        return skip("/proc/meminfo does not tell")
    total, available, swap = bytes_of["MemTotal"], bytes_of["MemAvailable"], bytes_of.get("SwapTotal", 0)
    told = f"{size(available)} of {size(total)} available, {size(swap) if swap else 'no'} swap"
    if available < device.settings.config.limits.memory_mb * 1024**2:
        return warn(
            f"{told}: less than one function may use",
            "see who has it: ps -eo rss,args --sort=-rss | head; fewer warm workers: pool.max_idle, pool.idle_s",
        )
    if not swap and total < _SMALL_BYTES:
        return warn(f"{told}: building an environment may run out", "sudo apt install zram-tools")
    return ok(told)


def _throttled(device: Device) -> int | None:
    """What the firmware says of power and heat, a bit for each; None where it can't be told."""
    text = device.text(_THROTTLED) or (device.output("vcgencmd", "get_throttled") or "").rpartition("=")[2]
    try:
        return int(text, 16)
    except ValueError:
        return None


def _untold(device: Device) -> Finding:
    if "Raspberry" not in device.described()["model"]:
        return skip("not a Raspberry Pi")
    return skip("the firmware can't be asked as this user", "sudo tinyfaas doctor; or: sudo usermod -aG video $USER")


def _is_kept() -> bool:
    """What the kernel knows of its clock; a question changes nothing, and a libc without it can't be asked."""
    try:
        return int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))) not in (-1, _TIME_ERROR)
    except (OSError, AttributeError):
        return False
