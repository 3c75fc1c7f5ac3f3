"""A booted host: Debian with systemd as its first process, in a container with a network and an address of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.harness.waiting import PATIENCE_S, eventually
from tests.hosts.cgroups import CgroupTree
from tests.hosts.network import Cable

_BOOT_S = 90.0
_ANSWER_S = 5.0
_REBOOTS = 133  # how systemd-nspawn says that its host wants to start again
_CAPABILITIES = Path("/proc/sys/kernel/cap_last_cap")
# Its mounts are its own and go with it; whoever dies in this chain takes the next one along.
_SUPERVISOR = f"""
set -eu
for procs in $CGROUPS; do echo $$ >"$procs"; done
mount -t overlay overlay -o "lowerdir=$LOWER,upperdir=$HOME_OF/upper,workdir=$HOME_OF/work" "$HOME_OF/root"
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
while :; do
  status=0
  setpriv --pdeathsig KILL systemd-nspawn --quiet --register=no --keep-unit --kill-signal=SIGRTMIN+3 \
    --directory="$HOME_OF/root" --machine="$NAME" --hostname="$NAME" --network-namespace-path="$NETWORK" \
    --capability=CAP_NET_ADMIN --resolv-conf=off --timezone=off --link-journal=no --boot || status=$?
  [ $status = {_REBOOTS} ] || exit $status
done
"""


class Host:
    """One host. Its disk (`home/upper` over the image) outlives a power cut; its name is also its host name."""

    def __init__(self, name: str, image: Path, home: Path, cable: Cable, cgroups: list[CgroupTree]) -> None:
        self.name = name
        self.cable = cable
        self.console = home / "console"
        self._image = image
        self._home = home
        self._cgroups = cgroups
        self._supervisor: subprocess.Popen[bytes] | None = None
        for folder in ("upper/etc", "work", "root"):
            (home / folder).mkdir(parents=True, exist_ok=True)
        (home / "upper/etc/hostname").write_text(f"{name}\n")
        # As on a Pi: without it sudo asks a name server who this host is, and waits for one that isn't there.
        (home / "upper/etc/hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {name}\n::1 localhost\n")

    # --- power ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Switch it on; `wait_up` waits for it."""
        assert self._supervisor is None, f"{self.name} is on"
        environ = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "CGROUPS": " ".join(str(cgroup.make()) for cgroup in self._cgroups),
            "LOWER": str(self._image), "HOME_OF": str(self._home), "NAME": self.name,
            "NETWORK": str(self.cable.namespace),
        }  # fmt: skip
        with self.console.open("ab") as console:
            self._supervisor = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "slave", "bash", "-c",
                 _SUPERVISOR],
                env=environ, stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True,
            )  # fmt: skip

    def wait_up(self) -> None:
        """Until systemd has started everything that it should."""
        eventually(self.is_up, f"{self.name} to be up; {self.console} tells more", _BOOT_S)

    def is_up(self) -> bool:
        """Whether it has booted. A host with a failed unit has."""
        with contextlib.suppress(ProcessLookupError, FileNotFoundError, subprocess.TimeoutExpired):
            said = self.run("systemctl", "is-system-running", check=False, timeout_s=_ANSWER_S).stdout
            return said.strip() in ("running", "degraded")
        return False  # on its way down, or not yet far enough to say

    def crash(self) -> None:
        """Cut its power: every process is gone at once."""
        assert self._supervisor is not None
        self._supervisor.kill()  # first: it would start the host again
        self._gone()

    def stop(self) -> None:
        """Shut it down in order, where it is on."""
        if self._supervisor is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._nspawn(), signal.SIGTERM)
        try:
            self._supervisor.wait(timeout=_BOOT_S)
        except subprocess.TimeoutExpired:
            self.crash()
        else:
            self._gone()

    def reboot(self) -> None:
        """As with `systemctl reboot`, until it is up again."""
        before = self.boot_id()
        self.run("systemctl", "reboot", check=False)
        eventually(lambda: self.boot_id() not in ("", before), f"{self.name} to start again", _BOOT_S)
        self.wait_up()

    def boot_id(self) -> str:
        """When its first process started, in ticks of this machine; empty while there is none."""
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            return Path(f"/proc/{self._leader()}/stat").read_text().rpartition(")")[2].split()[19]
        return ""

    def clear(self) -> None:
        """Switch it off at once, and throw its disk away."""
        if self._supervisor is not None:
            self.crash()
        shutil.rmtree(self._home, ignore_errors=True)

    def _gone(self) -> None:
        assert self._supervisor is not None
        for cgroup in self._cgroups:
            cgroup.kill()
        self._supervisor.wait(timeout=PATIENCE_S)
        self._supervisor = None
        for cgroup in self._cgroups:
            cgroup.remove()

    # --- inside --------------------------------------------------------------------------------------------------

    def run(
        self, *command: str, check: bool = True, given: str | None = None, timeout_s: float = 120.0,
        environ: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Run a command as its root; with `check` one that fails is an error that shows what it printed."""
        with subprocess.Popen(
            self._entering(environ or {}, command), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL if given is None else subprocess.PIPE,
        ) as running:  # fmt: skip
            try:
                printed, complained = running.communicate(given, timeout_s)
            except subprocess.TimeoutExpired:
                running.kill()
                for pipe in (running.stdout, running.stderr):
                    assert pipe is not None
                    pipe.close()  # what it started may hold the other end
                raise
        assert not check or running.returncode == 0, (
            f"{self.name}: {shlex.join(command)}: status {running.returncode}\n{printed}{complained}"
        )
        return subprocess.CompletedProcess(command, running.returncode, printed, complained)

    def sh(self, script: str, *, check: bool = True, timeout_s: float = 120.0) -> str:
        """What a script prints that root runs, as one types it."""
        return self.run("bash", "-c", script, check=check, timeout_s=timeout_s).stdout

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """A file of root's, with its folders."""
        self.run("install", "-D", f"--mode={mode:o}", "/dev/stdin", path, given=text)

    def copy(self, source: Path, target: str) -> None:
        """A file or folder of this machine, put into a folder there; it is root's."""
        pack = ["tar", "--create", "--owner=0", "--group=0", "--directory", str(source.parent), source.name]
        self.run("mkdir", "--parents", target)
        with subprocess.Popen(pack, stdout=subprocess.PIPE) as packing:
            unpack = self._entering({}, ("tar", "--extract", "--directory", target))
            subprocess.run(unpack, stdin=packing.stdout, check=True)
        assert packing.returncode == 0

    def journal(self, *matches: str) -> list[dict[str, Any]]:
        """Records of the journal as objects, oldest first."""
        printed = self.run("journalctl", "--output=json", "--no-pager", "--quiet", *matches).stdout
        return [json.loads(line) for line in printed.splitlines()]

    def property(self, unit: str, name: str) -> str:
        """What systemd says of a unit."""
        return self.run("systemctl", "show", "--property", name, "--value", unit).stdout.strip()

    def files(self) -> dict[str, str]:
        """Every file and folder of its disk, with type, owner and mode."""
        listed = self.sh("find / -xdev -printf '%p\\t%y %u:%g %m\\n'", timeout_s=300.0)
        return dict(line.split("\t", 1) for line in listed.splitlines() if "\t" in line)

    def _entering(self, environ: Mapping[str, str], command: tuple[str, ...]) -> list[str]:
        """The command that runs another one inside.

        Bare nsenter would keep all that root may do to this machine, and set its clock: no more than the host itself.
        """
        leader = self._leader()
        status = Path(f"/proc/{leader}/status").read_text()
        bounds = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapBnd:"))
        highest = int(_CAPABILITIES.read_text())
        drop = ",".join(f"-cap_{number}" for number in range(highest + 1) if not bounds >> number & 1)
        variables = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root",
            "LANG": "C.UTF-8", "TERM": "dumb", **environ,
        }  # fmt: skip
        return [
            "nsenter", "--target", str(leader), "--all", "--", "env", "--ignore-environment",
            *(f"{name}={value}" for name, value in variables.items()),
            "setpriv", *(["--bounding-set", drop, "--inh-caps", drop] if drop else []), *command,
        ]  # fmt: skip

    def _nspawn(self) -> int:
        assert self._supervisor is not None, f"{self.name} is off"
        return _child(self._supervisor.pid, "systemd-nspawn")

    def _leader(self) -> int:
        """The process that is its systemd, as this machine counts."""
        return _child(self._nspawn(), "systemd")


def _child(pid: int, name: str) -> int:
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{child}/comm").read_text().strip() == name[:15]:
                return int(child)
    raise ProcessLookupError(f"no {name} below {pid}")
