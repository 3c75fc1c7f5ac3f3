"""Limits hold inside the sandbox and without it; a good function is served beside each that passes one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.harness.bench import Bench
from tests.harness.census import running, zombies
from tests.harness.client import Client, new_label
from tests.harness.server import Server
from tests.harness.waiting import eventually

GOOD = "def main(value): return value"


@dataclass(frozen=True)
class Place:
    """A server with or without a sandbox, and who calls it."""

    boxed: bool
    server: Server
    client: Client


@pytest.fixture(scope="module", params=["bubblewrap", "none"])
def place(shared_bench: Bench, request: pytest.FixtureRequest) -> Iterator[Place]:
    broker = shared_bench.broker()
    boxed = request.param == "bubblewrap"
    server = shared_bench.server(broker, {"workers": 3, "sandbox_mode": "required" if boxed else "off"}).start()
    client = shared_bench.client(broker)
    client.deploy("good", GOOD)
    yield Place(boxed, server, client)
    eventually(lambda: not zombies(server.pid), "every process to be reaped")
    server.close()


@pytest.fixture(autouse=True)
def good(place: Place) -> Iterator[None]:
    """The good function answers after each of these, and the server is the same."""
    pid = place.server.pid
    yield
    assert place.client.call("good", "well") == "well"
    assert place.server.pid == pid
    assert place.server.process is not None
    assert place.server.process.poll() is None


BREACHES: dict[str, tuple[str, dict[str, Any], str]] = {
    "fills its heap": ("x = []\n    while True: x.append(bytearray(1 << 20))", {"memory_mb": 64}, "out_of_memory"),
    "fills a private mapping": (
        "import mmap\n    m = mmap.mmap(-1, 1 << 30, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\n"
        "    for at in range(0, 1 << 30, 4096): m[at] = 1\n    time.sleep(60)",
        {"memory_mb": 64}, "out_of_memory",
    ),
    "fills a shared mapping": (
        "import mmap\n    m = mmap.mmap(-1, 1 << 30)\n    for at in range(0, 1 << 30, 4096): m[at] = 1\n"
        "    time.sleep(60)",
        {"memory_mb": 64}, "out_of_memory",
    ),
    "lets its children fill the memory": (
        "for _ in range(8):\n        if not os.fork():\n            x = bytearray(os.urandom(1 << 20)) * 32\n"
        "            time.sleep(60)\n    time.sleep(60)",
        {"memory_mb": 64}, "out_of_memory",
    ),
    "forks without end": (
        "while True:\n        try: os.fork()\n        except OSError: pass", {"timeout_s": 3}, "crashed timeout"
    ),
    "starts threads without end": (
        "import threading\n    while True:\n        try: threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "        except RuntimeError: time.sleep(0.01)",
        {"timeout_s": 3}, "crashed timeout",
    ),
    "spins for ever": ("while True: pass", {"timeout_s": 1}, "timeout"),
    "sleeps for ever": ("time.sleep(600)", {"timeout_s": 1}, "timeout"),
    "won't be asked to end": (
        "import signal\n    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    time.sleep(600)", {"timeout_s": 1},
        "timeout",
    ),
    "opens without end": (
        "x = [open('/dev/null') for _ in range(10_000)]", {"max_open_files": 64}, "function_error"
    ),
    "writes one large file": (
        "f = open('large', 'wb')\n    while True: f.write(bytes(1 << 20))", {"max_disk_mb": 8},
        "crashed function_error",
    ),
    "writes many files": (
        "for n in range(1000):\n        open(str(n), 'wb').write(bytes(1 << 20))\n        time.sleep(0.01)",
        {"max_disk_mb": 8}, "crashed",
    ),
    "uses up the inodes": (
        "for n in range(1_000_000): open(str(n), 'w').close()\n    time.sleep(60)", {}, "crashed"
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BREACHES)
def test_a_limit_that_is_passed_ends_the_call_with_its_code(place: Place, function: str, kind: str) -> None:
    body, config, codes = BREACHES[kind]
    place.client.deploy(function, f"import os, time\n\ndef main():\n    {body}\n", config={"timeout_s": 20, **config})
    label = new_label("breach")
    place.client.publish(f"faas/invoke/{function}", {"request_id": label})
    assert place.client.call("good", "beside") == "beside"
    answer = place.client.answer_to(label).body
    assert answer.get("code") in codes.split(), answer
    place.client.request(f"faas/admin/delete/{function}")


@pytest.mark.parametrize("folder", ["/tmp", "/dev/shm"])
def test_what_is_stored_in_a_private_tmpfs_counts_as_memory(place: Place, function: str, folder: str) -> None:
    if not place.boxed:
        pytest.skip("without a sandbox there is no private tmpfs")
    place.client.deploy(
        function,
        f"""
        import time
        def main():
            with open("{folder}/full", "wb") as file:
                for _ in range(100): file.write(bytes(1 << 20))
            time.sleep(60)
        """,
        config={"memory_mb": 48},
    )
    answer = place.client.invoke(function)
    assert answer["code"] in ("out_of_memory", "function_error"), answer


def test_threads_and_large_address_spaces_are_no_breach(place: Place, function: str) -> None:
    place.client.deploy(
        function,
        """
        import mmap, threading
        def main():
            space = mmap.mmap(-1, 4 << 30, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)  # without reserve
            stop = threading.Event()
            threads = [threading.Thread(target=stop.wait) for _ in range(16)]
            for thread in threads: thread.start()
            stop.set()
            return len(space) >> 30
        """,
        config={"memory_mb": 64},
    )
    assert place.client.call(function) == 4


STAYERS = {
    "a child": "subprocess.Popen(command)",
    "a child in a session of its own": "subprocess.Popen(command, start_new_session=True)",
    "a daemon": (
        "if not os.fork():\n        os.setsid()\n        if not os.fork(): os.execvp(command[0], command)\n"
        "        os._exit(0)\n    os.wait()"
    ),
}


@pytest.mark.parametrize("ending", ["delete", "crash"])
@pytest.mark.parametrize("kind", STAYERS)
def test_nothing_outlives_its_worker(place: Place, function: str, kind: str, ending: str) -> None:
    mark = f"600.{abs(hash(function)) % 10**9}"
    place.client.deploy(
        function,
        f"import os, subprocess\ncommand = ['sh', '-c', 'touch ran; exec sleep {mark}']\n\n"
        "def main(crash=False):\n    if crash: os.abort()\n"
        f"    {STAYERS[kind]}\n",
    )
    place.client.call(function)
    eventually((place.server.functions_dir / function / "state" / "ran").exists, "the child to run")
    if ending == "delete":
        place.client.request(f"faas/admin/delete/{function}")
    else:
        assert place.client.invoke(function, True)["code"] == "crashed"
    eventually(lambda: not running(f"sleep {mark}"), "the child to be gone")


def test_status_names_the_mechanisms_in_force(place: Place) -> None:
    limits = place.client.request("faas/admin/status")["limits"]
    assert limits["sandbox"] == ("bubblewrap" if place.boxed else "none")
    assert limits["memory"] == "watch"
