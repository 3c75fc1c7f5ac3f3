"""What `tinyfaas doctor` finds on devices that are laid out as folders."""

from __future__ import annotations

import dataclasses
import os
import threading
from pathlib import Path

import pytest

from tests.harness.account import unprivileged
from tests.harness.pi import StockPi
from tests.harness.tmpfs import small_disk
from tinyfaas.cli.doctor import report
from tinyfaas.cli.doctor.checks import CHECKS, Check
from tinyfaas.cli.doctor.device import Device, Settings
from tinyfaas.cli.doctor.finding import Finding, State, fail, ok, warn
from tinyfaas.cli.terminal import takes_colour
from tinyfaas.config import Config, Mqtt, Sandbox

_THROTTLED = "/sys/devices/platform/soc/soc:firmware/get_throttled"
_SERVICE = {
    "LoadState": "loaded", "ActiveState": "active", "UnitFileState": "enabled", "Result": "success", "NRestarts": "0",
    "User": "tinyfaas", "ControlGroup": "/system.slice/tinyfaas.service", "Delegate": "yes",
}  # fmt: skip


@pytest.fixture
def pi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StockPi:
    monkeypatch.setenv("PATH", "/usr/local/bin:/usr/bin:/bin")
    return StockPi(tmp_path)


def made(name: str, device: Device) -> Finding:
    """What one check finds."""
    (check,) = (check for check in CHECKS if check.name == name)
    return check.make(device)


def with_config(device: Device, **changes: object) -> Device:
    config = dataclasses.replace(Config(), **changes)  # type: ignore[arg-type]
    return dataclasses.replace(device, settings=Settings(config=config))


def with_service(device: Device, **changes: str) -> Device:
    return dataclasses.replace(device, service={**_SERVICE, **changes})


# --- a Pi as it is flashed ---------------------------------------------------------------------------------------


def test_on_a_stock_pi_all_is_well_but_the_memory_cgroup_and_the_brokers_limits(pi: StockPi) -> None:
    here = ("broker", "server", "python", "pip and venv")  # of the computer that runs this, not of the folder
    found = {check.name: check.make(pi.device) for check in CHECKS if check.name not in here}
    assert {name for name, finding in found.items() if finding.state is State.WARN} == {
        "memory cgroup",
        "broker limits",
    }
    assert not [finding for finding in found.values() if finding.state is State.FAIL]
    assert pi.device.described() == {
        "model": "Raspberry Pi Zero 2 W Rev 1.0",
        "machine": "aarch64",
        "system": "Debian GNU/Linux 12 (bookworm)",
        "kernel": "6.12.25+rpt-rpi-v8",
    }


def test_what_needs_fixing_says_how_and_what_is_well_does_not(pi: StockPi) -> None:
    pi.write(_THROTTLED, "f000f\n")
    pi.write("/proc/sys/user/max_user_namespaces", "0\n")
    pi.at("/usr/bin/bwrap").unlink()
    for check in CHECKS:
        finding = check.make(pi.device)
        assert finding.found, check.name
        assert bool(finding.fix) == (finding.state in (State.WARN, State.FAIL)) or finding.state is State.SKIP
        assert finding.fix.count("\n") <= 1


# --- isolation ---------------------------------------------------------------------------------------------------


def test_the_memory_cgroup_is_switched_on_in_the_file_that_the_firmware_reads(pi: StockPi) -> None:
    finding = made("memory cgroup", pi.device)
    assert finding.state is State.WARN
    switches = "cgroup_enable=memory cgroup_memory=1"
    assert finding.fix == f"sudo sed -i '1s/$/ {switches}/' /boot/firmware/cmdline.txt && sudo reboot"
    pi.at("/boot/firmware/cmdline.txt").unlink()  # before bookworm
    assert "/boot/cmdline.txt" in made("memory cgroup", pi.device).fix


def test_a_memory_cgroup_that_was_switched_on_needs_a_restart(pi: StockPi) -> None:
    pi.change("/boot/firmware/cmdline.txt", "rootwait", "rootwait cgroup_enable=memory")
    assert made("memory cgroup", pi.device).fix == "sudo reboot"


def test_a_kernel_that_lists_the_memory_controller_has_it_whatever_its_command_line_says(pi: StockPi) -> None:
    pi.write("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n")
    assert made("memory cgroup", pi.device) == ok("on, cgroup v2")


def test_without_a_service_there_is_nothing_delegated(pi: StockPi) -> None:
    for name in ("service", "delegation"):
        assert made(name, pi.device) == Finding(State.SKIP, "not running as a service")


def test_what_a_service_is_delegated_is_told_by_its_cgroup(pi: StockPi) -> None:
    controllers = "/sys/fs/cgroup/system.slice/tinyfaas.service/cgroup.controllers"
    assert made("delegation", with_service(pi.device)).state is State.SKIP
    pi.write(controllers, "cpu pids\n")
    without = made("delegation", with_service(pi.device))
    assert without.state is State.WARN
    assert "see the check `memory cgroup`" in without.fix
    pi.write("/sys/fs/cgroup/cgroup.controllers", "cpu memory pids\n")
    assert "Delegate=cpu memory pids" in made("delegation", with_service(pi.device)).fix
    pi.write(controllers, "cpu memory pids\n")
    assert made("delegation", with_service(pi.device)).state is State.OK
    closed = made("delegation", with_service(pi.device, Delegate="no"))
    assert closed.state is State.WARN
    assert "Delegate=cpu memory pids" in closed.fix


@pytest.mark.parametrize(
    ("changes", "state", "fix"),
    [
        ({}, State.OK, ""),
        ({"ActiveState": "failed", "Result": "exit-code"}, State.FAIL, "journalctl -u tinyfaas.service"),
        ({"ActiveState": "activating", "Result": "watchdog"}, State.FAIL, "journalctl -u tinyfaas.service"),
        ({"ActiveState": "inactive"}, State.WARN, "sudo systemctl enable --now tinyfaas.service"),
        ({"UnitFileState": "disabled"}, State.WARN, "sudo systemctl enable tinyfaas.service"),
    ],
)
def test_a_service_that_does_not_run_is_told(pi: StockPi, changes: dict[str, str], state: State, fix: str) -> None:
    finding = made("service", with_service(pi.device, **changes))
    assert finding.state is state
    assert fix in finding.fix


@pytest.mark.parametrize(
    ("file", "value", "line"),
    [
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
        ("/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces=15000"),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ],
)
def test_refused_user_namespaces_are_allowed_by_a_sysctl(pi: StockPi, file: str, value: str, line: str) -> None:
    pi.write(file, f"{value}\n")
    finding = made("user namespaces", pi.device)
    assert finding.state is State.WARN
    assert finding.fix == f"printf '{line}\\n' | sudo tee /etc/sysctl.d/60-tinyfaas.conf && sudo sysctl --system"


@pytest.mark.parametrize(("mode", "state"), [("auto", State.WARN), ("required", State.FAIL), ("off", State.SKIP)])
def test_without_bubblewrap_it_depends_on_what_was_asked_for(pi: StockPi, mode: str, state: State) -> None:
    pi.at("/usr/bin/bwrap").unlink()
    finding = made("bubblewrap", with_config(pi.device, sandbox=Sandbox(mode=mode)))
    assert finding.state is state
    assert finding.fix == ("" if mode == "off" else "sudo apt install bubblewrap")


# --- the broker's configuration ----------------------------------------------------------------------------------


def test_a_stock_mosquitto_keeps_little_and_is_told_what_to_keep(pi: StockPi) -> None:
    finding = made("broker limits", pi.device)
    assert finding.state is State.WARN
    assert "max_queued_messages 1000, max_inflight_messages 20, set_tcp_nodelay false" in finding.found
    (line,) = finding.fix.splitlines()
    pi.write("/etc/mosquitto/conf.d/tinyfaas.conf", line.split("'")[1].replace("\\n", "\n"))
    assert made("broker limits", pi.device).state is State.OK


def test_what_was_set_too_low_is_to_be_changed_where_it_stands(pi: StockPi) -> None:
    pi.write("/etc/mosquitto/conf.d/local.conf", "max_queued_messages 500\n")
    first, second = made("broker limits", pi.device).fix.splitlines()
    assert "set: max_queued_messages 100000" in first
    assert "max_queued_messages" not in second


def test_the_configuration_of_the_broker_on_our_port_is_read_and_no_others(pi: StockPi) -> None:
    pi.write("/proc/417/comm", "mosquitto\n")
    pi.write("/proc/417/cmdline", "/usr/sbin/mosquitto\0-c\0/srv/broker.conf\0")
    pi.write("/srv/broker.conf", "listener 1884 127.0.0.1\nmax_queued_messages 7\n")
    other = made("broker limits", with_config(pi.device, mqtt=Mqtt(port=1884)))
    assert "/srv/broker.conf: persistence false" in other.found
    assert "in /srv/broker.conf or what it includes, set: persistence true" in other.fix
    assert made("broker limits", pi.device).found.startswith("/etc/mosquitto/mosquitto.conf: ")
    none = made("broker limits", with_config(pi.device, mqtt=Mqtt(port=1885)))
    assert none.state is State.SKIP


def test_nothing_but_its_limits_is_told_of_a_brokers_configuration(pi: StockPi) -> None:
    pi.write("/etc/mosquitto/conf.d/bridge.conf", "connection up\nremote_password raspberry\n")
    finding = made("broker limits", pi.device)
    assert "raspberry" not in finding.found + finding.fix


def test_of_a_broker_elsewhere_that_is_said(pi: StockPi) -> None:
    finding = made("broker limits", with_config(pi.device, mqtt=Mqtt(host="192.0.2.10")))
    assert finding.state is State.SKIP
    assert "192.0.2.10" in finding.found


# --- disk --------------------------------------------------------------------------------------------------------


def test_a_card_that_went_read_only_fails(pi: StockPi) -> None:
    pi.change("/proc/self/mounts", "ext4 rw,noatime", "ext4 ro,noatime")
    finding = made("writable disk", pi.device)
    assert finding.state is State.FAIL
    assert "sudo mount -o remount,rw /" in finding.fix


def test_only_the_file_system_that_is_used_counts(pi: StockPi) -> None:
    pi.change("/proc/self/mounts", "vfat rw,", "vfat ro,")
    assert made("writable disk", pi.device).state is State.OK
    with pi.at("/proc/self/mounts").open("a", encoding="utf-8") as mounts:
        mounts.write("/dev/sda1 /srv/my\\040disk ext4 ro,relatime 0 0\n")
    device = with_config(pi.device, functions_dir=Path("/srv/my disk/functions"))
    assert "/srv/my disk" in made("writable disk", device).found
    assert made("writable disk", device).state is State.FAIL


def test_folders_in_memory_are_not_kept(pi: StockPi) -> None:
    in_memory = made("writable disk", with_config(pi.device, data_dir=Path("/run/tinyfaas")))
    assert (in_memory.state, in_memory.fix) == (State.WARN, "name folders on a disk: data_dir, functions_dir")
    pi.change(
        "/proc/self/mounts",
        "/dev/mmcblk0p2 / ext4 rw,noatime",
        "overlayroot / overlay rw,lowerdir=/media/root-ro,upperdir=/media/root-rw/overlay",
    )
    assert "do_overlayfs 1" in made("writable disk", pi.device).fix


def test_a_full_disk_fails(tmp_path: Path) -> None:
    disk = small_disk(tmp_path, unprivileged(), 8 * 1024**2)
    if isinstance(disk, str):
        pytest.skip(disk)
    try:
        finding = made("free disk", with_config(Device(), data_dir=tmp_path, functions_dir=tmp_path / "functions"))
    finally:
        disk.unmount()
    assert finding.state is State.FAIL
    assert finding.found.startswith(f"free for {tmp_path}: 8 MiB, ")
    assert "sudo du" in finding.fix


# --- hardware ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bits", "voltage", "speed"),
    [
        ("0", State.OK, State.OK),
        ("50000", State.WARN, State.WARN),
        ("10000", State.WARN, State.OK),
        ("50005", State.FAIL, State.WARN),
        ("80008", State.OK, State.WARN),
    ],
)
def test_the_firmwares_bits_tell_of_power_and_heat(pi: StockPi, bits: str, voltage: State, speed: State) -> None:
    pi.write(_THROTTLED, f"{bits}\n")
    assert made("under-voltage", pi.device).state is voltage
    assert made("throttling", pi.device).state is speed


def test_the_voltage_alarm_is_enough(pi: StockPi) -> None:
    pi.at(_THROTTLED).unlink()
    assert made("under-voltage", pi.device) == ok("none now")
    assert made("throttling", pi.device).state is State.SKIP
    pi.write("/sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1\n")
    assert made("under-voltage", pi.device).state is State.FAIL


@pytest.mark.parametrize(("text", "state"), [("48312", State.OK), ("81000", State.WARN), ("86500", State.FAIL)])
def test_a_hot_processor_is_told(pi: StockPi, text: str, state: State) -> None:
    pi.write("/sys/class/thermal/thermal_zone0/temp", f"{text}\n")
    finding = made("temperature", pi.device)
    assert (finding.state, finding.found) == (state, f"{int(text) / 1000:.1f} °C")


def test_a_clock_that_nobody_keeps_is_told(pi: StockPi) -> None:
    assert made("clock", pi.device) == ok("synchronised; no real-time clock")
    pi.at("/run/systemd/timesync/synchronized").unlink()
    assert made("clock", pi.device).state is State.WARN
    pi.write("/sys/class/rtc/rtc0/name", "rpi-rtc\n")
    assert made("clock", pi.device).found == "not synchronised; a real-time clock"


def test_little_memory_and_no_swap_are_told(pi: StockPi) -> None:
    assert made("memory", pi.device) == ok("256 MiB of 426.4 MiB available, 512 MiB swap")
    pi.change("/proc/meminfo", "SwapTotal: 524284", "SwapTotal: 0")
    assert "no swap" in made("memory", pi.device).found
    pi.change("/proc/meminfo", "MemAvailable: 262144", "MemAvailable: 65536")
    assert "less than one function may use" in made("memory", pi.device).found


def test_a_computer_that_is_no_pi_is_not_blamed_for_that(tmp_path: Path) -> None:
    for name in ("under-voltage", "throttling", "temperature"):
        assert made(name, Device(root=tmp_path)).state is State.SKIP


# --- python ------------------------------------------------------------------------------------------------------


def test_a_32_bit_system_on_a_64_bit_kernel_wants_piwheels(pi: StockPi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/pi")
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    assert made("piwheels", pi.device).state is State.SKIP
    device = dataclasses.replace(pi.device, pointer_bits=32)
    missing = made("piwheels", device)
    assert missing.state is State.WARN
    pi.write("/etc/pip.conf", missing.fix.split("'")[1].replace("\\n", "\n"))
    assert made("piwheels", device) == ok("in /etc/pip.conf")


def test_the_python_that_runs_this_is_good_enough() -> None:
    for name in ("python", "pip and venv"):
        assert made(name, Device()).state is State.OK


# --- all of it ---------------------------------------------------------------------------------------------------


def test_a_check_that_hangs_is_late_and_holds_up_nothing(pi: StockPi) -> None:
    forever = threading.Event()

    def look(_device: Device) -> Finding:
        forever.wait()
        return ok("at last")

    finding = Check("slow", look, limit_s=0.05, late=State.FAIL).make(pi.device)
    forever.set()
    assert (finding.state, finding.found) == (State.FAIL, "no answer within 0.05 s")


def test_a_check_that_breaks_is_told_and_stops_no_other(pi: StockPi) -> None:
    def look(_device: Device) -> Finding:
        raise RuntimeError("oh")

    finding = Check("broken", look).make(pi.device)
    assert (finding.state, finding.found) == (State.WARN, "could not be looked at: RuntimeError: oh")


def test_settings_that_may_not_be_read_are_skipped_and_those_that_are_wrong_fail(pi: StockPi) -> None:
    hidden = Settings(problem="/etc/tinyfaas/tinyfaas.toml: Permission denied", is_hidden=True)
    wrong = Settings(problem="/etc/tinyfaas/tinyfaas.toml: mqtt.port: 0 is not a port", origin="/etc/t.toml")
    for settings, state in ((hidden, State.SKIP), (wrong, State.FAIL)):
        device = dataclasses.replace(pi.device, settings=settings)
        assert made("config", device).state is state
        assert made("broker", device).state is State.SKIP
        assert made("server", device).state is State.SKIP


def test_a_finding_is_a_line_and_its_fix_a_line_below() -> None:
    text = report.lines("disk", warn("little\x1b[2Jroom", "one\ntwo"), 6, coloured=False)
    assert text == "warn  disk    little�[2Jroom\n              fix: one\n              fix: two"
    assert report.lines("disk", fail("none", ""), 4, coloured=True) == "\x1b[31;1mfail\x1b[0m  disk  none"


def test_colours_are_for_terminals_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    ours, theirs = os.openpty()
    with os.fdopen(ours, "rb"), os.fdopen(theirs, "w") as terminal, (tmp_path / "file").open("w") as file:
        assert takes_colour(terminal)
        assert not takes_colour(file)
        monkeypatch.setenv("NO_COLOR", "1")
        assert not takes_colour(terminal)


def test_the_worst_check_decides_and_skipped_ones_do_not() -> None:
    skipped = Finding(State.SKIP, "")
    assert report.worst([ok(""), skipped]) is State.OK
    assert report.worst([ok(""), warn("", ""), skipped]) is State.WARN
    assert report.worst([fail("", ""), warn("", "")]) is State.FAIL
    assert report.summary([ok(""), ok(""), warn("", "")]) == "2 ok, 0 skip, 1 warn, 0 fail"
