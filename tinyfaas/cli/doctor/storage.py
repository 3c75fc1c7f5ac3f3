"""Where functions and history are kept: whether that can be written, lasts, and has room."""

from __future__ import annotations

import os
from pathlib import Path

from tinyfaas.cli.doctor.device import Device
from tinyfaas.cli.doctor.finding import Finding, State, fail, ok, warn
from tinyfaas.cli.show import size

_MIB = 1024 * 1024
_LITTLE_BYTES, _NONE_BYTES = 512 * _MIB, 64 * _MIB  # an environment with numpy takes 100 MiB
_LITTLE_INODES, _NONE_INODES = 20_000, 1_000  # and 2,000 files


def writable(device: Device) -> Finding:
    """What holds `data_dir`, `functions_dir` and the system is mounted for writing, and lasts over a restart."""
    mounts = _mounts(device)
    for folder in (*_folders(device), Path("/")):
        point, kind, options = _mount_of(folder, mounts)
        if "ro" in options:
            return fail(
                f"{point}, which holds {folder}, is mounted read-only: a file system with errors, or a failing card",
                f"see why: sudo dmesg | grep -iE 'ext4|mmc|i/o error'\nsudo mount -o remount,rw {point};"
                " if that does not last, replace the card",
            )
        if kind == "tmpfs" or any(option.startswith("upperdir=/media/root-rw") for option in options):
            return warn(
                f"{point}, which holds {folder}, is kept in memory: functions are gone at the next start",
                "name folders on a disk: data_dir, functions_dir"
                if kind == "tmpfs"
                else "sudo raspi-config nonint do_overlayfs 1 && sudo reboot",
            )
    return ok(", ".join(f"{folder} on {_mount_of(folder, mounts)[0]}" for folder in _folders(device)))


def room(device: Device) -> Finding:
    """`data_dir` and `functions_dir` have free space and free inodes for another environment or two."""
    worst, told = State.OK, []
    by_disk = {_nearest(device.at(folder)).stat().st_dev: folder for folder in reversed(_folders(device))}
    for folder in reversed(by_disk.values()):
        found = os.statvfs(_nearest(device.at(folder)))
        free_bytes, inodes = found.f_bavail * found.f_frsize, found.f_favail
        counts_inodes = found.f_files > 0  # some file systems have as many as they like
        told.append(f"{folder}: {size(free_bytes)}" + (f", {inodes} inodes" if counts_inodes else ""))
        if free_bytes < _NONE_BYTES or (counts_inodes and inodes < _NONE_INODES):
            worst = State.FAIL
        elif worst is State.OK and (free_bytes < _LITTLE_BYTES or (counts_inodes and inodes < _LITTLE_INODES)):
            worst = State.WARN
    text = f"free for {'; '.join(told)}"
    if worst is State.OK:
        return ok(text)
    return Finding(
        worst, text, f"see what takes it: sudo du -xh --max-depth=3 {_folders(device)[-1]} | sort -h | tail\n"
        "sudo apt clean; sudo journalctl --vacuum-size=50M; tinyfaas delete FN for what is not needed",
    )  # fmt: skip


def _folders(device: Device) -> tuple[Path, ...]:
    config = device.settings.config
    return (config.data_dir.absolute(), config.functions_dir.absolute())


def _nearest(path: Path) -> Path:
    """The folder itself, or what it would be made in."""
    return next(each for each in (path, *path.parents) if each.exists())


def _mounts(device: Device) -> list[tuple[Path, str, list[str]]]:
    """Mount point, kind and options of every file system, in the order of mounting."""
    lines = [line.split() for line in (device.text("/proc/self/mounts") or "").splitlines()]
    return [
        (Path(words[1].encode().decode("unicode_escape")), words[2], words[3].split(","))
        for words in lines
        if len(words) >= 4
    ]


def _mount_of(folder: Path, mounts: list[tuple[Path, str, list[str]]]) -> tuple[Path, str, list[str]]:
    """The file system a folder lies in: of those at the longest path, what was mounted last."""
    holding = [mount for mount in mounts if folder.is_relative_to(mount[0])]
    return max(enumerate(holding), key=lambda each: (len(each[1][0].parts), each[0]), default=(0, (Path("/"), "", [])))[
        1
    ]
