"""Root file systems of Debian like those of a freshly flashed Pi: built once, kept on the machine outside any checkout.

Mirror, certificates and the installer's options are the machine's own, read when an image is built.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import time
from pathlib import Path

CACHE = Path("/var/cache/tinyfaas-tests")
KEY = CACHE / "id"  # opens every host by ssh
SUITES = {"bookworm": "3.11", "trixie": "3.13"}  # with their Python

_BARE = (
    "adduser", "ca-certificates", "dbus", "iproute2", "iputils-ping", "libpam-systemd", "netbase", "openssh-server",
    "procps", "python3", "python3-apt", "python3-venv", "sudo", "systemd", "systemd-sysv",
)  # fmt: skip
# What an installation would fetch: with it in the image, a host needs no way out.
_FETCHED = ("bubblewrap", "mosquitto", "mosquitto-clients", "openssl", "python3-packaging")
_GROUPS = ("gpio", "i2c", "spi")  # Raspberry Pi OS has them besides Debian's dialout and video
_NOT_HERE = (
    "apt-daily.timer", "apt-daily-upgrade.timer", "systemd-networkd.service", "systemd-networkd.socket",
    "systemd-resolved.service",
)  # fmt: skip
_APT = Path("/etc/apt")
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_UNUSED_S = 14 * 86_400


def image(suite: str, *, bare: bool = False) -> Path:
    """The root file system of a suite; `bare` without the packages that an installation would fetch."""
    packages = _BARE if bare else (*_BARE, *_FETCHED)
    recipe = "\n".join((suite, *packages, *_GROUPS, *_NOT_HERE, _sources(suite), Path(__file__).read_text("utf-8")))
    name = f"{suite}-{'bare' if bare else 'full'}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    CACHE.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        root = CACHE / name
        if not root.is_dir():
            _forget_unused()
            partial = CACHE / f"{name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            _build(suite, packages, partial)
            partial.rename(root)
        (CACHE / f"{name}.lock").touch()
    return root


def _build(suite: str, packages: tuple[str, ...], root: Path) -> None:
    mirror = _mirror()
    command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={','.join(packages)}", suite]
    subprocess.run([*command, str(root), *([mirror] if mirror else [])], check=True)
    _share_ways_out(suite, root)
    if not KEY.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "tinyfaas-tests", "-f", KEY], check=True)
    _in(root, "useradd", "--create-home", "--shell", "/bin/bash", "pi")
    for group in _GROUPS:
        _in(root, "groupadd", "--system", "--force", group)
    _write(root / "etc/sudoers.d/pi", "pi ALL=(ALL) NOPASSWD:ALL\n", 0o440)
    for home, owner in (("root", "root"), ("home/pi", "pi")):
        (root / home / ".ssh").mkdir(mode=0o700, exist_ok=True)
        _write(root / home / ".ssh/authorized_keys", KEY.with_suffix(".pub").read_text(), 0o600)
        _in(root, "chown", "--recursive", f"{owner}:", f"/{home}/.ssh")
    for unit in _NOT_HERE:
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
    _write(root / "etc/machine-id", "", 0o444)  # each host draws its own
    (root / "var/log/journal").mkdir(exist_ok=True)  # kept over a power cut


def _share_ways_out(suite: str, root: Path) -> None:
    """How this machine reaches mirror and registry, for hosts that may go out."""
    _write(root / "etc/apt/sources.list", "", 0o644)
    if sources := _sources(suite):
        _write(root / "etc/apt/sources.list.d/debian.sources", sources, 0o644)
    for options in _APT.glob("apt.conf.d/99*"):
        shutil.copy(options, root / "etc/apt/apt.conf.d")
    if _CERTIFICATES.exists():
        shutil.copy(_CERTIFICATES, root / _CERTIFICATES.relative_to("/"))
        _write(root / "etc/pip.conf", f"[global]\ncert = {_CERTIFICATES}\ndisable-pip-version-check = 1\n", 0o644)
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")


def _sources(suite: str) -> str:
    """This machine's own list of Debian's packages, for another suite; empty where it is no Debian."""
    listed = _APT / "sources.list.d/debian.sources"
    if not listed.is_file():
        return ""
    text = listed.read_text(encoding="utf-8")
    here = next((word for line in text.splitlines() if line.startswith("Suites:") for word in line.split()[1:]), suite)
    return text.replace(here, suite)


def _mirror() -> str:
    """The machine's own mirror; empty: that of mmdebstrap."""
    lines = _sources("").splitlines()
    return next((line.split()[1] for line in lines if line.startswith("URIs:")), "")


def _forget_unused() -> None:
    for lock in CACHE.glob("*.lock"):
        if time.time() - lock.stat().st_mtime > _UNUSED_S:
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink()


def _in(root: Path, *command: str) -> None:
    subprocess.run(["chroot", root, *command], check=True)


def _write(path: Path, text: str, mode: int) -> None:
    path.unlink(missing_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
