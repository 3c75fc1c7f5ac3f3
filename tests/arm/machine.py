"""A 64-bit Pi as a virtual machine under qemu: Debian's own kernel, every controller of control groups v2.

About twenty times slower than the real thing: nothing is measured in it that has to do with speed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from tests.harness.waiting import eventually, free_port

SUITE = os.environ.get("SUITE", "bookworm")
_CACHE = Path("/var/cache/tinyfaas-tests/arm")
_IMAGE = Path(__file__).with_name("image")
_BUILD_S = 1800.0
_BOOT_S = 600.0


def image(what: str) -> Path:
    """The folder of an image, `machine` or `32-bit`; it is made if it is not there, or made by another script."""
    folder = _CACHE / f"{what}-{SUITE}"
    script, ready = _IMAGE.read_text(encoding="utf-8"), folder / "ready"
    if not ready.is_file() or ready.read_text(encoding="utf-8") != script:
        subprocess.run([_IMAGE, what, folder], check=True, timeout=_BUILD_S)
        ready.write_text(script, encoding="utf-8")
    return folder


@dataclass
class Machine:
    """A machine that runs from `boot` to `power_off`; its disk is new each time. `kernel_words` go to its kernel."""

    kernel_words: str = ""
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="tinyfaas-arm-")))

    def boot(self) -> Machine:
        """Switch it on for the first time, and wait until one can log in and everything has started."""
        self._image = image("machine")
        create: list[str | Path] = [
            "qemu-img",
            "create",
            "-q",
            "-f",
            "qcow2",
            "-F",
            "raw",
            "-b",
            self._image / "disk.img",
            self._disk,
        ]
        subprocess.run(create, check=True)
        shutil.copy(self._image / "key", self.key)
        self._switch_on()
        return self

    def reboot(self, kernel_words: str) -> None:
        """Shut it down and switch it on with other words for its kernel."""
        self.tried("systemctl poweroff")
        self._qemu.wait(_BOOT_S)
        self._leave()
        self.kernel_words = kernel_words
        self._switch_on()

    def _switch_on(self) -> None:
        self.port = free_port()
        self._ssh = [
            "ssh", "-i", str(self.key), "-p", str(self.port), *self.ssh_options.split(),
            "-o", "ControlMaster=auto", "-o", f"ControlPath={self.folder}/ssh", "-o", "ControlPersist=yes",
            "root@127.0.0.1",
        ]  # fmt: skip
        words = f"console=ttyAMA0 root=/dev/vda rw quiet systemd.show_status=0 {self.kernel_words}"
        self._qemu = subprocess.Popen([
            "qemu-system-aarch64", "-machine", "virt,gic-version=2", "-cpu", "cortex-a72", "-accel", "tcg,thread=multi",
            "-smp", "2", "-m", "1024", "-display", "none", "-serial", f"file:{self.console}",
            "-kernel", self._image / "kernel", "-initrd", self._image / "initrd", "-append", words,
            "-drive", f"file={self._disk},if=none,id=disk,format=qcow2", "-device", "virtio-blk-pci,drive=disk",
            "-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{self.port}-:22",
            "-device", "virtio-net-pci,netdev=net,romfile=",
        ], stdin=subprocess.DEVNULL)  # fmt: skip
        eventually(self._lets_us_in, f"a log-in; see {self.console}", timeout_s=_BOOT_S)

    ssh_options = (
        "-o BatchMode=yes -o ConnectTimeout=60 -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "
        "-o LogLevel=ERROR"
    )

    @property
    def key(self) -> Path:
        """What opens it to root and to the account `pi`, at `port` of loopback."""
        return self.folder / "key"

    @property
    def console(self) -> Path:
        """What the machine's kernel has said."""
        return self.folder / "console"

    def tried(self, command: str, *, put_in: bytes = b"", timeout_s: float = 300.0) -> subprocess.CompletedProcess[str]:
        """Run a shell command as root; its outcome may be a failure."""
        found = subprocess.run(
            [*self._ssh, command], input=put_in, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout_s,
            check=False,
        )  # fmt: skip
        return subprocess.CompletedProcess(command, found.returncode, found.stdout.decode("utf-8", "replace"))

    def run(self, command: str, *, put_in: bytes = b"", timeout_s: float = 300.0) -> str:
        """Run a shell command as root, which must succeed; returns what it said."""
        done = self.tried(command, put_in=put_in, timeout_s=timeout_s)
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        return done.stdout

    def write(self, path: str, text: str) -> None:
        """Write a file, for everyone to read."""
        self.run(f"mkdir -p {Path(path).parent} && cat >{path} && chmod a+r {path}", put_in=text.encode())

    def copy(self, folder: Path, target: str, *names: str) -> None:
        """Copy files and folders below `folder` to below `target`."""
        packed = subprocess.run(
            ["tar", "-C", folder, "--exclude=__pycache__", "-czf", "-", *names], check=True, stdout=subprocess.PIPE
        )
        self.run(f"mkdir -p {target} && tar -C {target} --no-same-owner -xzf -", put_in=packed.stdout)

    def power_off(self) -> None:
        """Switch it off as one pulls a plug, and forget its disk."""
        self._leave()
        self._qemu.kill()
        self._qemu.wait()
        shutil.rmtree(self.folder)

    def _leave(self) -> None:
        subprocess.run([*self._ssh, "-O", "exit"], check=False, capture_output=True)

    @property
    def _disk(self) -> Path:
        return self.folder / "disk.qcow2"

    def _lets_us_in(self) -> bool:
        assert self._qemu.poll() is None, f"qemu has ended; see {self.console}"
        try:
            return self.tried("systemctl is-system-running --wait", timeout_s=60.0).stdout.strip() in {
                "running",
                "degraded",
            }
        except subprocess.TimeoutExpired:
            return False
