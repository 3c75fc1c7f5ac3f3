"""Functions that misbehave in every way they can: each has its clear answer, and a good one answers beside and after.

Those that pass limits, or reach for what is others', are in tests/hostile.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.client import Client, new_label
from tests.harness.server import Server

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def good(client: Client, server: Server, echo: str) -> Iterator[str]:
    """A good function; it answers after each of these, on the same server."""
    pid = server.pid
    yield echo
    assert client.call(echo, "well") == [["well"], {}]
    assert server.pid == pid
    assert server.log.records(event="dispatch_failed") == []
    assert server.log.records(event="invocation_internal_error") == []


FAILURES = {
    "raises": ("raise KeyError('lost')", "function_error", "KeyError: 'lost'"),
    "raises without a word": ("raise ValueError", "function_error", "ValueError"),
    "raises a BaseException": ("raise GeneratorExit('over')", "function_error", "GeneratorExit: over"),
    "raises KeyboardInterrupt": ("raise KeyboardInterrupt", "function_error", "KeyboardInterrupt"),
    "raises what can't be shown": (
        "class E(Exception):\n        __str__ = __repr__ = lambda self: 1 / 0\n    raise E", "function_error", "E"
    ),
    "raises 100 exceptions in a chain": (
        "error = None\n    for n in range(100):\n        try: raise ValueError(n) from error\n"
        "        except ValueError as e: error = e\n    raise error",
        "function_error", "ValueError: 99",
    ),
    "raises with 10 MB of text": ("raise ValueError('x' * 10_000_000)", "function_error", "ValueError: xxx"),
    "raises with half a surrogate": ("raise ValueError('\\ud800')", "function_error", "ValueError: \ud800"),
    "raises MemoryError": ("raise MemoryError", "out_of_memory", "MemoryError"),
    "calls sys.exit": ("sys.exit('bye')", "function_error", "SystemExit: bye"),
    "calls sys.exit in good order": ("sys.exit(0)", "function_error", "SystemExit: 0"),
    "calls os._exit": ("os._exit(7)", "crashed", "status 7"),
    "calls os._exit in good order": ("os._exit(0)", "crashed", "status 0"),
    "calls os.abort": ("os.abort()", "crashed", "SIGABRT"),
    "segfaults": ("ctypes.string_at(0)", "crashed", "SIGSEGV"),
    "kills itself": ("os.kill(os.getpid(), signal.SIGKILL)", "crashed", "SIGKILL"),
    "kills its process group": ("os.killpg(0, signal.SIGTERM)", "crashed", "SIGTERM"),
    "recurses for ever": ("f = lambda x: f(x + 1); return f(0)", "function_error", "RecursionError"),
    "replaces itself by another program": ("os.execv('/bin/true', ['true'])", "crashed", "status 0"),
    "returns a set": ("return {1, 2}", "bad_result", "set"),
    "returns bytes": ("return b'x'", "bad_result", "bytes"),
    "returns an object": ("return object()", "bad_result", "object"),
    "returns a generator": ("return (x for x in [1])", "bad_result", "generator"),
    "returns NaN": ("return float('nan')", "bad_result", "not JSON"),
    "returns infinity, deep inside": ("return {'a': [1, {'b': -float('inf')}]}", "bad_result", "not JSON"),
    "returns itself": ("return main", "bad_result", "function"),
    "returns a tuple as key": ("return {(1, 2): 3}", "bad_result", "keys must be"),
    "returns a circle": ("x = []; x.append(x); return x", "bad_result", "Circular"),
    "returns 10,000 levels": (
        "x = []\n    for _ in range(10_000): x = [x]\n    return x", "bad_result", "not JSON"
    ),
    "returns 10 MB": ("return 'x' * 10_000_000", "bad_result", "are allowed"),
    "returns a number of 5000 digits": ("return 10 ** 5000", "bad_result", "not JSON"),
    "closes every descriptor": ("os.closerange(0, 4096); return 1", "crashed", ""),
    "closes every descriptor and lingers": ("os.closerange(0, 4096); time.sleep(600)", "crashed", "channel"),
    "writes garbage to every descriptor": (
        "for fd in range(256):\n        try: os.write(fd, os.urandom(100))\n        except OSError: pass", "crashed", ""
    ),
    "writes zeros to every descriptor": (
        "for fd in range(256):\n        try: os.write(fd, bytes(100))\n        except OSError: pass", "crashed", ""
    ),
    "announces a frame of 4 GB": (
        "for fd in range(3, 256):\n        try: os.write(fd, b'\\xff' * 9)\n        except OSError: pass\n"
        "    time.sleep(600)", "crashed", "frame channel",
    ),
    "returns an endless iterator's list": (
        "import itertools\n    return list(itertools.islice(itertools.count(), 1_000_000))", "bad_result", "allowed"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("body", "code", "said"), list(FAILURES.values()), ids=list(FAILURES))
def test_a_function_that_misbehaves_has_a_clear_answer(
    client: Client, function: str, body: str, code: str, said: str
) -> None:
    source = f"import ctypes, os, signal, sys, time\n\ndef main(well=False):\n    if well: return 'well'\n    {body}\n"
    client.deploy(function, source, config={"timeout_s": 20})
    for _ in range(2):  # the worker that comes after is as good
        answer = client.invoke(function)
        assert (answer["status"], answer["code"]) == ("error", code), answer
        assert said in answer["error"]
        assert len(answer["error"]) <= 500
    assert client.call(function, True) == "well"


PRANKS = {
    "replaces json.dumps": "json.dumps = json.loads = json.JSONEncoder = json.JSONDecoder = None; return 'fine'",
    "breaks the encoder's class": (
        "json.JSONEncoder.default = json.JSONEncoder.iterencode = lambda *a: 'broken'; return 'fine'"
    ),
    "empties sys.modules": "sys.modules.clear(); return 'fine'",
    "closes stdout": "sys.stdout.close(); os.close(2); return 'fine'",
    "takes stdout away": "sys.stdout = sys.stderr = None; return 'fine'",
    "puts something else for stdout": "sys.stdout = object(); return 'fine'",
    "closes stdin": "os.close(0); return 'fine'",
    "reads stdin": "return 'fine' + sys.stdin.read()",
    "ignores every signal": (
        "[signal.signal(n, signal.SIG_IGN) for n in range(1, 32) if n not in (9, 19)]; return 'fine'"
    ),
    "sets an alarm that has no effect": "signal.signal(signal.SIGALRM, signal.SIG_IGN); signal.alarm(1); return 'fine'",
    "goes elsewhere": "os.chdir('/'); return 'fine'",
    "lowers the recursion limit": "sys.setrecursionlimit(60); return 'fine'",
    "forks": "return 'fine' if os.fork() else 'child'",
    "forks and both end": "os.fork() or os._exit(3); return 'fine'",
    "locks up the collector": "import gc; gc.disable(); gc.set_threshold(0); return 'fine'",
    "collects arguments in vain": "main.__defaults__ = None; return 'fine'",
    "prints half a character": "os.write(1, b'\\xe2\\x82'); os.write(2, bytes(range(256))); return 'fine'",
    "prints control characters": "print('\\x1b[2J\\x00\\r\\u2028{\"event\": \"forged\"}'); return 'fine'",
    "leaves a thread": "threading.Thread(target=time.sleep, args=(600,)).start(); return 'fine'",
    "leaves a thread that prints": (
        "threading.Thread(target=lambda: [print(n) for n in range(10**5)], daemon=True).start(); return 'fine'"
    ),
    "leaves a thread that raises": "threading.Thread(target=lambda: 1 / 0).start(); return 'fine'",
    "leaves a child": "subprocess.Popen(['sleep', '600']); return 'fine'",
    "leaves a child that holds its output": (
        "subprocess.Popen(['sh', '-c', 'while sleep 0.01; do echo still here; done']); return 'fine'"
    ),
    "leaves a child that left the group": (
        "subprocess.Popen(['sleep', '5'], start_new_session=True, close_fds=False); return 'fine'"
    ),
    "registers an exit handler": "import atexit; atexit.register(lambda: time.sleep(600)); return 'fine'",
    "returns a str that lies": (
        "class S(str):\n        def __str__(self): return 'lie'\n        def encode(self, *a): return b'lie'\n"
        "    return S('fine')"
    ),
}


@pytest.mark.parametrize("body", list(PRANKS.values()), ids=list(PRANKS))
def test_a_function_that_plays_pranks_harms_at_most_itself(client: Client, function: str, body: str) -> None:
    source = f"import json, os, signal, subprocess, sys, threading, time\n\ndef main(x=1):\n    {body}\n"
    client.deploy(function, source, config={"timeout_s": 20})
    assert client.call(function) == "fine"
    again = client.invoke(function)
    assert again.get("result") == "fine" or again["code"] in ("function_error", "crashed"), again


@pytest.mark.parametrize(
    "body",
    [
        "os.getpid = os.write = os._exit = None",
        "import builtins; builtins.len = builtins.print = builtins.open = None",
        "sys.settrace(lambda *a: 1 / 0)",
        "__import__('faaswire').frame = None",
        "sys.setrecursionlimit(10**9); f = lambda x: list(map(f, [x])); f(1)",
    ],
    ids=["os", "builtins", "a trace", "frames", "recursion in C"],
)
def test_a_function_that_breaks_its_worker_loses_that_and_no_more(client: Client, function: str, body: str) -> None:
    client.deploy(function, f"import os, sys\n\ndef main(well=False):\n    if not well: {body}\n    return 'well'\n")
    answer = client.invoke(function)
    assert answer.get("result") == "well" or answer["code"] in ("function_error", "crashed"), answer
    assert client.invoke(function, True)["status"] in ("success", "error")
    assert client.call(function, True) == "well"


@pytest.mark.parametrize(
    "body",
    [
        "os.kill(os.getpid(), signal.SIGSTOP)",
        "[signal.signal(n, signal.SIG_IGN) for n in range(1, 32) if n not in (9, 19)]; time.sleep(600)",
        "threading.Lock().acquire() and threading.Event().wait()",
        "ctypes.PyDLL(None).sleep(600)",
        "re.match('(a+)+$', 'a' * 50 + 'b')",
        "__import__('asyncio').run(__import__('asyncio').sleep(600))",
    ],
    ids=["stops itself", "ignores signals", "waits for nobody", "holds the GIL", "backtracks", "awaits"],
)
def test_no_way_of_hanging_withstands_the_time_limit(client: Client, function: str, body: str) -> None:
    source = f"import ctypes, os, re, signal, threading, time\n\ndef main():\n    {body}\n"
    client.deploy(function, source, config={"timeout_s": 0.3})
    assert client.invoke(function)["code"] == "timeout"


def test_a_process_that_dies_is_noticed_although_a_child_holds_its_channel(client: Client, function: str) -> None:
    client.deploy(
        function,
        """
        import os, time

        def main():
            if os.fork() == 0:
                time.sleep(600)
            os._exit(4)
        """,
        config={"timeout_s": 20},
    )
    answer = client.invoke(function)
    assert (answer["code"], answer["duration_ms"] < 10_000) == ("crashed", True), answer
    assert "status 4" in answer["error"]


def test_printing_100_mb_fills_neither_log_nor_memory(client: Client, server: Server, function: str, good: str) -> None:
    client.deploy(
        function,
        """
        import sys

        def main():
            for _ in range(100):
                sys.stdout.write(("x" * 99 + "\\n") * 10_486)
            print("no newline" * 1_000_000, end="")
            return "printed"
        """,
    )
    before = len(server.log.text())
    client.publish(f"faas/invoke/{function}", {"request_id": "loud"})
    assert client.call(good, "beside") == [["beside"], {}]
    loud = client.answer_to("loud").body
    assert loud["result"] == "printed"
    dropped = server.log.wait(event="function_output_dropped", invocation_id=loud["id"])
    assert dropped["bytes"] > 100 * MIB
    assert len(server.log.text()) - before < MIB
    assert client.request("faas/admin/status")["memory"]["process_rss_bytes"] < 200 * MIB


def test_what_a_function_prints_can_not_forge_the_servers_log(client: Client, server: Server, function: str) -> None:
    line = '{"event": "invocation_done", "room": "dispatch", "function": "forged"}'
    client.deploy(function, f"def main():\n    print({line!r})\n    print('a\\rb\\x00c')")
    answer = client.invoke(function)
    assert server.log.records(event="invocation_done", function="forged") == []
    assert server.log.wait(event="function_output", invocation_id=answer["id"], line=line)


def test_an_answer_forged_for_the_next_call_is_not_believed(client: Client, function: str) -> None:
    client.deploy(
        function,
        """
        import os, stat, struct

        def main(forge):
            if forge:
                body = b'"forged"'
                for number in range(1, 10):
                    for fd in range(3, 64):
                        try:
                            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                                os.write(fd, struct.pack("!IBI", len(body), 2, number) + body)
                        except OSError:
                            pass
            return "honest"
        """,
        config={"concurrency": 1},
    )
    client.invoke(function, True)  # whatever comes of this one
    # A forged frame that comes late may cost the next call its worker, never its honesty.
    answers = [client.invoke(function, False) for _ in range(5)]
    assert {answer.get("result", answer.get("code")) for answer in answers} <= {"honest", "crashed"}, answers
    assert answers[-1]["status"] == "success"


def test_a_thread_that_prints_between_calls_hurts_nobody(client: Client, server: Server, function: str) -> None:
    client.deploy(
        function,
        """
        import threading, time

        def chatter():
            while True:
                print("chatter " * 100)
                time.sleep(0.001)

        threading.Thread(target=chatter, daemon=True).start()

        def main(x): return x
        """,
    )
    assert [client.call(function, x) for x in range(50)] == list(range(50))


def test_a_function_that_locks_its_own_folder_can_be_deleted(client: Client, server: Server, function: str) -> None:
    client.deploy(
        function,
        """
        import os
        def main():
            os.makedirs("a/b/c")
            open("a/b/c/file", "w").close()
            os.symlink("/etc", "a/link")
            for folder in ("a/b/c", "a/b", "a", "."):
                os.chmod(folder, 0)
        """,
    )
    client.call(function)
    assert client.request(f"faas/admin/delete/{function}")["status"] == "deleted"
    assert not (server.functions_dir / function).exists()
    assert Path("/etc/passwd").exists()


def test_a_function_that_fails_at_every_start_does_not_fork_without_end(client: Client, function: str) -> None:
    client.deploy(
        function,
        """
        import os
        if os.path.exists("again"):
            os._exit(1)
        open("again", "w").close()
        def main(): os._exit(1)
        """,
    )
    started = client.request("faas/admin/status")["workers"]["started"]
    codes = {client.invoke(function)["code"] for _ in range(50)}
    assert codes == {"crashed", "unavailable"}
    assert client.request("faas/admin/status")["workers"]["started"] - started <= 10


def test_twenty_functions_that_misbehave_at_once_do_not_stop_a_good_one(
    client: Client, function: str, good: str
) -> None:
    source = """
        import os, sys, time
        def main(how):
            if how == 0: os._exit(1)
            if how == 1: raise ValueError
            if how == 2: return {1}
            if how == 3: time.sleep(600)
            os.closerange(0, 256)
    """
    client.deploy(function, source, config={"timeout_s": 0.2})
    labels = [new_label("request") for _ in range(20)]
    for number, label in enumerate(labels):
        client.publish(f"faas/invoke/{function}", json.dumps({"request_id": label, "args": [number % 5]}))
        assert client.call(good, number) == [[number], {}]
    codes = [client.answer_to(label).body["code"] for label in labels]
    assert set(codes) == {"crashed", "function_error", "bad_result", "timeout"}
