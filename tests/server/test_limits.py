"""Limits that leave a function alive, and what they leave alone; inside the sandbox and without it.

Those that end it are passed by the functions of tests/hostile.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.census import running
from tests.harness.place import Place
from tests.harness.waiting import eventually


@pytest.fixture(autouse=True)
def good(place: Place) -> Iterator[None]:
    """The good function answers after each of these, and the server is the same."""
    pid = place.server.pid
    yield
    assert place.client.call(place.good, "well") == "well"
    assert place.server.pid == pid
    assert place.server.process is not None
    assert place.server.process.poll() is None


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


# Who is stopped for a while can't notice that, but that it goes on.
SPINNING = """
    import signal, time
    stops = []
    def main(wall_s):
        signal.signal(signal.SIGCONT, lambda *_: stops.append(None))
        end_s, used_s = time.monotonic() + wall_s, time.process_time()
        while time.monotonic() < end_s: pass
        return (time.process_time() - used_s) / wall_s, len(stops)
"""


def test_a_function_gets_no_more_of_the_processor_than_it_may(place: Place, function: str) -> None:
    place.client.deploy(function, SPINNING, config={"cpu_percent": 25})
    place.client.deploy(f"{function}-2", SPINNING)
    place.client.publish(f"faas/invoke/{function}-2", {"request_id": f"{function}-free", "args": [2]})
    share, stops = place.client.call(function, 2)
    _, stops_of_other = place.client.answer_to(f"{function}-free").body["result"]
    assert 0.05 < share < 0.45, share
    by_watch = place.client.request("faas/admin/status")["limits"]["cpu"] == "watch"
    assert stops > 0 or not by_watch or share < 0.25  # a busy machine may have given it less than it may have
    assert stops_of_other == 0


def test_a_function_prints_no_more_than_it_may(place: Place, function: str) -> None:
    code = "def main():\n    print('x' * 99)\n    print('y' * 9900)"
    place.client.deploy(function, code, config={"max_output_bytes": 1000})
    answer = place.client.invoke(function)
    dropped = place.server.log.wait(event="function_output_dropped", invocation_id=answer["id"])
    said = place.server.log.records(event="function_output", invocation_id=answer["id"])
    assert dropped["bytes"] == 10_001 - 1000
    assert [each["line"] for each in said] == ["x" * 99, "y" * 900]
    place.client.deploy(function, code, config={"max_output_bytes": 0})
    place.client.call(function)
    assert place.server.log.records(event="function_output", function=function, version=2) == []


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
