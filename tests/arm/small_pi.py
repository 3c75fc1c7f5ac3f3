"""A 32-bit Pi: Debian's root file system for it, whose programs this machine runs through qemu-user.

Kernel, network and processes are this machine's own: a server in it is reached on loopback.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.arm.machine import image

# The image stays as it is: what is written goes into a folder beside it. The mounts go with the last process.
_ENTER = """
set -eu
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
mount --bind /dev "$2/root/dev"
mount -t proc proc "$2/root/proc"
cp --dereference /etc/resolv.conf "$2/root/etc/resolv.conf"
cd "$2/root"
account=$3 python=$4 catch=$5
shift 5
exec "$python" -c "$catch" chroot --userspec="$account" . "$@"
"""
# qemu-user lets no program be the one that orphans below it go to, as the server must be; the property survives exec.
_CATCH = "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0); os.execvp(sys.argv[1], sys.argv[1:])"


class SmallPi:
    """Its disk, new each time; `clear` removes it."""

    def __init__(self) -> None:
        self._image = image("32-bit") / "root"
        self._home = Path(tempfile.mkdtemp(prefix="tinyfaas-32-bit-"))
        self._home.chmod(0o755)
        for name in ("upper", "work", "root"):
            (self._home / name).mkdir(mode=0o755)

    def command(self, *words: str, account: str = "root") -> Sequence[str | Path]:
        """The command that runs another one inside, as root or as somebody else."""
        enter = ["unshare", "--mount", "--propagation", "private", "bash", "-c", _ENTER, "enter"]
        return [*enter, self._image, self._home, account, sys.executable, _CATCH, *words]

    def run(self, *words: str, account: str = "root", timeout_s: float = 600.0) -> str:
        """Run a command, which must succeed; returns what it said."""
        done = subprocess.run(
            self.command(*words, account=account), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=timeout_s, check=False, env=ENVIRONMENT,
        )  # fmt: skip
        assert done.returncode == 0, f"{words}\n{done.stdout}"
        return done.stdout

    def copy(self, source: Path, target: str, *names: str) -> None:
        """Copy files and folders below `source` to below `target`, while nothing runs inside."""
        to = self._home / "upper" / target.lstrip("/")
        to.mkdir(parents=True, exist_ok=True)
        for name in names:
            if (source / name).is_dir():
                shutil.copytree(source / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source / name, to / name)

    def clear(self) -> None:
        """Throw its disk away."""
        shutil.rmtree(self._home)


ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
