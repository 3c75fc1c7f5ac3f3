"""The fork server: an interpreter that has the standard modules loaded, and forks a worker whenever it is asked.

It knows nothing of any function: it is handed descriptors (c: the channel; o, e: stdout and stderr; g: the folder of
the control group to be in; n: a process in whose namespaces to be, N: in whose network too). What a worker is to be,
its secrets above all, the worker alone reads from its own channel. Otherwise what one function was told would stand in
the memory of the next.

Started as `python -I -S <this folder> FD`. A request on that socket names the descriptors that come with it, a letter
each; the answer is the worker's process id, or `!` and what went wrong. The worker's parent is then the server: the
process in between has ended, and orphans go to the server.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import site
import socket
import sys
import traceback
from typing import Any, NoReturn

import faascell
import faasworker

# Loaded once for all workers: each starts faster, and they share the memory. What few functions use, or what is large
# (asyncio, ssl, urllib.request), a function loads itself.
_SHARED = (
    "base64", "collections.abc", "contextlib", "datetime", "functools", "hashlib", "logging", "math", "pathlib",
    "random", "statistics", "subprocess", "threading", "typing",
)  # fmt: skip
_LONGEST_REQUEST = 16
_MOST_DESCRIPTORS = 8


def serve(control: socket.socket) -> NoReturn:
    """Fork a worker for each request, until the server closes the socket."""
    for name in _SHARED:
        importlib.import_module(name)
    site.setquit()  # what `site` does for every interpreter, but for the environment, which each worker joins
    site.setcopyright()
    site.sethelper()
    gc.collect()
    gc.freeze()  # no collection in a worker touches, and so copies, what all share
    while True:
        kinds, fds, _, _ = socket.recv_fds(control, _LONGEST_REQUEST, _MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
        if not kinds:
            os._exit(0)
        said = fork(dict(zip(kinds.decode("ascii"), fds, strict=True)))
        for fd in fds:
            os.close(fd)
        control.send(said)


def fork(fds: dict[str, int]) -> bytes:
    """Fork a worker by way of a process that enters the cell and ends; returns what the server is told."""
    ours, theirs = os.pipe()
    between = faascell.fork_into(fds.get("g"))
    if between == 0:
        step_between(fds, theirs)
    os.close(theirs)
    said = os.read(ours, 1024)
    os.close(ours)
    os.waitpid(between, 0)  # from here on the server is the worker's parent
    return said or b"!the process in between died"


def step_between(fds: dict[str, int], tell: int) -> NoReturn:
    """Enter the cell, fork the worker there, tell its process id, and end."""
    try:
        faascell.enter(fds.get("n", fds.get("N")), network="N" in fds)
        worker = os.fork()
    except OSError as error:
        os.write(tell, f"!{error.strerror}".encode())
        os._exit(1)
    if worker:
        os.write(tell, b"%d" % worker)
        os._exit(0)
    try:
        become(fds["c"], fds["o"], fds["e"])
    finally:
        traceback.print_exc()  # a fault of ours, as nothing of the function's is left to fly here
        os._exit(1)


def become(channel_fd: int, stdout: int, stderr: int) -> NoReturn:
    """Be a worker."""
    channel = faasworker.Channel(faascell.settle(channel_fd, stdout, stderr))
    start: dict[str, Any] = json.loads(channel.receive()[2])
    try:
        faascell.give_up(start)
        os.chdir(start["state_dir"])
        faascell.join(start["python"], start["environ"])
        if start["parent"]:
            faascell.die_with(start["parent"])
        faascell.forbid(start["seccomp"])
    except Exception as error:  # noqa: BLE001  (whatever keeps it from being a worker, the server is told)
        faasworker.refuse(channel, error)
    faasworker.work(channel, start["code_dir"], start["largest"], start["environ"])


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: a function's modules are not to be found in it
    serve(socket.socket(fileno=int(sys.argv[1])))
