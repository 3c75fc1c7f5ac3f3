"""The system calls that no function needs, and many an escape did: refused to workers by a filter of the kernel's.

libseccomp compiles the filter, by way of pyseccomp where that is installed (`tinyfaas[seccomp]`), in a process of its
own: none of it stays in the server's memory.
"""

from __future__ import annotations

import base64
import importlib
import importlib.util
import subprocess
import sys
import tempfile

_LIBRARY = "pyseccomp"
_COMPILE_S = 20.0
_EPERM = 1
# fmt: off
REFUSED = (
    "acct", "add_key", "bpf", "clock_adjtime", "clock_settime", "delete_module", "fanotify_init", "finit_module",
    "fsconfig", "fsmount", "fsopen", "fspick", "init_module", "io_uring_enter", "io_uring_register", "io_uring_setup",
    "ioperm", "iopl", "kexec_file_load", "kexec_load", "keyctl", "lookup_dcookie", "mount", "mount_setattr",
    "move_mount", "move_pages", "open_by_handle_at", "open_tree", "perf_event_open", "pivot_root", "process_madvise",
    "process_vm_readv", "process_vm_writev", "ptrace", "quotactl", "quotactl_fd", "reboot", "request_key",
    "setdomainname", "sethostname", "setns", "settimeofday", "shmget", "swapoff", "swapon", "syslog", "umount",
    "umount2", "unshare", "userfaultfd", "vhangup",
)
# fmt: on


def program() -> tuple[str, str]:
    """The filter as a program in base64, and why there is none; one of the two is empty."""
    if importlib.util.find_spec(_LIBRARY) is None:
        return "", f"{_LIBRARY} is not installed (pip install 'tinyfaas[seccomp]')"
    try:
        compiled = subprocess.run(  # noqa: S603  (our own module)
            [sys.executable, "-m", __name__], stdin=subprocess.DEVNULL, capture_output=True, timeout=_COMPILE_S,
            check=True,
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode("utf-8", "replace").strip().splitlines()
        return "", f"libseccomp compiled no filter: {said[-1] if said else error}"
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", f"libseccomp compiled no filter: {error}"
    return compiled.stdout.decode("ascii").strip(), ""


def _compile() -> bytes:
    """The program for this machine's kind of processor. A call that the kind does not have needs no refusal."""
    library = importlib.import_module(_LIBRARY)
    rules = library.SyscallFilter(defaction=library.ALLOW)
    for call in REFUSED:
        try:
            rules.add_rule(library.ERRNO(_EPERM), call)
        except (OSError, RuntimeError, ValueError):
            continue
    with tempfile.TemporaryFile() as file:
        rules.export_bpf(file)
        file.seek(0)
        return file.read()


if __name__ == "__main__":
    print(base64.b64encode(_compile()).decode("ascii"))
