"""Virtual environments, one per function and set of requirements: built once, kept while nothing changes."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from importlib import metadata
from pathlib import Path

from tinyfaas import family, log
from tinyfaas.errors import BuildFailed

logger = log.get("environments")

Report = Callable[[str, str], None]  # phase, line
TAIL_LINES = 40
LONGEST_LINE = 500
_COMPLETE = ".complete"

# What an installer needs of the server's environment; anything else, a password above all, stays out of it.
_PASSED_ON = re.compile(
    r"PIP_.*|UV_.*|(HTTPS?|NO|ALL)_PROXY|(https?|no|all)_proxy|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|HOME|LANG|TZ|TMPDIR"
)


def digest_of(requirements: bytes) -> str:
    """The name of the environment for these requirements: comments and blank lines make no difference."""
    lines = (re.sub(rb"(^|\s)#.*", b"", line).strip() for line in requirements.splitlines())
    wanted = b"\n".join(line for line in lines if line)
    interpreter = f"{platform.python_version()} {platform.machine()}".encode()
    return hashlib.blake2b(interpreter + b"\0" + wanted, digest_size=6).hexdigest()


def prepare(home: Path, requirements: Path, report: Report, timeout_s: float) -> str:
    """Build the environment below `home/environments` unless it is there; returns its name. Raises `BuildFailed`."""
    text = requirements.read_bytes()
    name = digest_of(text)
    environment = home / "environments" / name
    report("environment", "")
    if (environment / _COMPLETE).exists():
        return name
    shutil.rmtree(environment, ignore_errors=True)
    environment.parent.mkdir(parents=True, exist_ok=True)
    deadline_s = time.monotonic() + timeout_s
    try:
        _run([sys.executable, "-I", "-m", "venv", "--without-pip", str(environment)], deadline_s, lambda _: None)
        if digest_of(text) != digest_of(b""):
            report("install", "")
            _run(_installer(environment, requirements), deadline_s, lambda line: report("install", line))
        (environment / _COMPLETE).touch()
    except BaseException:
        shutil.rmtree(environment, ignore_errors=True)
        raise
    return name


def installed(environment: Path) -> list[str]:
    """What is installed in an environment, as `name==version`, sorted."""
    folders = [str(folder) for folder in environment.glob("lib/python3*/site-packages")]
    return sorted(f"{found.name}=={found.version}" for found in metadata.distributions(path=folders))


def python_version(environment: Path) -> str:
    """The Python version of an environment, `3.11.2`; empty if it can't be told."""
    try:
        text = (environment / "pyvenv.cfg").read_text(encoding="utf-8")
    except OSError:
        return ""
    found = re.search(r"^version\s*=\s*(\S+)", text, re.MULTILINE)
    return found[1] if found else ""


def remove_unused(home: Path, used: Iterable[str]) -> None:
    """Remove the environments below `home` that no kept version uses."""
    keep = set(used)
    for folder in (home / "environments").glob("*"):
        if folder.name not in keep:
            shutil.rmtree(folder, ignore_errors=True)


def _installer(environment: Path, requirements: Path) -> list[str]:
    python = environment / "bin" / "python"
    options = [
        "install",
        "--no-input",
        "--disable-pip-version-check",
        "--no-compile",
        "--requirement",
        str(requirements),
    ]
    if importlib.util.find_spec("pip") is not None:  # one pip serves all environments
        return [sys.executable, "-m", "pip", "--python", str(python), *options]
    script = 'set -e; "$0" -I -m ensurepip >/dev/null; exec "$0" -m pip "$@"'
    return ["/bin/sh", "-c", script, str(python), *options]


def _run(command: list[str], deadline_s: float, on_line: Callable[[str], None]) -> None:
    """Run to the end, handing on each line it prints; raises `BuildFailed` with the last of them."""
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    environ = {name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)}
    process = family.spawn(  # arguments are ours; the requirements are a file
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={"PATH": os.environ.get("PATH", os.defpath), **environ}, start_new_session=True,
    )  # fmt: skip
    overdue = threading.Event()

    def expire() -> None:
        overdue.set()
        family.kill(process.pid)

    timer = threading.Timer(max(0.0, deadline_s - time.monotonic()), expire)
    timer.daemon = True
    timer.start()
    assert process.stdout is not None
    try:
        for raw in iter(partial(process.stdout.readline, 65_536), b""):
            line = raw.decode("utf-8", "replace").rstrip()[:LONGEST_LINE]
            if line:
                tail.append(line)
                on_line(line)
    finally:
        timer.cancel()
        family.kill(process.pid)
        code = process.wait()
        family.forget(process.pid)
        process.stdout.close()
    if overdue.is_set():
        raise BuildFailed("the environment took too long to build", detail="\n".join(tail))
    if code != 0:
        said = next((line for line in reversed(tail) if line.startswith("ERROR:")), "see detail")
        raise BuildFailed(f"the environment could not be built: {said.removeprefix('ERROR: ')}", detail="\n".join(tail))
