"""Building an environment runs uploaded code: what that may do, see and use; and what pip is told and refuses."""

from __future__ import annotations

import platform
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.harness import packages
from tests.harness.bench import Bench, Grounds
from tests.harness.census import running, zombies
from tests.harness.client import Client, new_label, upload_body
from tests.harness.server import Server
from tests.harness.tmpfs import small_disk
from tests.harness.waiting import eventually

GOOD = "def main(value): return value"
USER = "import {0}\ndef main(): return {0}.VALUE"
X86_64, AARCH64 = 62, 183
OTHER = AARCH64 if platform.machine() == "x86_64" else X86_64
OTHER_NAME = "aarch64" if OTHER == AARCH64 else "x86_64"
PYTHON = f"cp{sys.version_info[0]}{sys.version_info[1]}"
LIMITS = {
    "uploads_build_timeout_s": 12, "uploads_build_memory_mb": 128, "uploads_build_max_processes": 24,
    "uploads_build_disk_mb": 64,
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """A server with or without a sandbox, and who calls it."""

    boxed: bool
    server: Server
    client: Client
    grounds: Grounds

    def source(self, name: str, setup: str) -> str:
        """A line of requirements.txt that has this setup.py run."""
        return str(packages.source(self.grounds.new_wheels(), name, setup))


@pytest.fixture(scope="module", params=["bubblewrap", "none"])
def place(shared_bench: Bench, request: pytest.FixtureRequest) -> Iterator[Place]:
    broker = shared_bench.broker()
    boxed = request.param == "bubblewrap"
    settings = {"workers": 3, "sandbox_mode": "required" if boxed else "off", **LIMITS}
    server = shared_bench.server(broker, settings).start()
    client = shared_bench.client(broker)
    client.deploy("good", GOOD)
    yield Place(boxed, server, client, shared_bench.grounds)
    eventually(lambda: not zombies(server.pid), "every process to be reaped")
    server.close()


@pytest.fixture
def name() -> str:
    """A package that nobody else makes."""
    return new_label("probe").replace("-", "_")


HOSTILE: dict[str, tuple[str, str]] = {
    "forks without end": (
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", "processes and threads"
    ),
    "starts threads without end": (
        "import threading, time\nwhile True:\n    try: threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "    except RuntimeError: time.sleep(0.01)",
        "processes and threads",
    ),
    "allocates without end": ("x = []\nwhile True: x.append(bytearray(1 << 20))", "MiB of memory"),
    "fills the private /tmp": (
        "import time\nwith open('/tmp/probe-fill', 'wb') as file:\n"
        "    for _ in range(160): file.write(bytes(1 << 20))\ntime.sleep(60)",
        "MiB of memory|could not be built",
    ),
    "fills the disk": (
        "import itertools, os, time\nfor n in itertools.count():\n"
        "    open(f\"{os.environ['TMPDIR']}/{n}\", 'wb').write(bytes(1 << 20))\n    time.sleep(0.005)",
        "MiB, 64 are allowed",
    ),
    "writes one large file": (
        "import os\nwith open(os.environ['TMPDIR'] + '/large', 'wb') as file:\n"
        "    while True: file.write(bytes(1 << 20))",
        "could not be built",
    ),
    "uses up the inodes": (
        "import itertools, os\nfor n in itertools.count(): open(f\"{os.environ['TMPDIR']}/{n}\", 'w').close()",
        "files or more|are allowed|took too long",
    ),
    "sleeps for ever and won't be asked to end": (
        "import signal, time\nfor each in range(1, 32):\n    try: signal.signal(each, signal.SIG_IGN)\n"
        "    except OSError: pass\ntime.sleep(600)",
        "it took too long",
    ),
    "prints 1 GB": (
        "import os\nwith open(f'/proc/{os.getppid()}/fd/1', 'wb') as out:\n"
        "    for _ in range(1 << 14): out.write(b'spam\\n' * 13107)\nraise SystemExit('printed')",
        "could not be built",
    ),
    "leaves /dev/zero for the server to read": (
        "import os\nhome = os.path.dirname(os.environ['TMPDIR'])\n"
        "packages = f'{home}/lib/python' + '.'.join(os.sys.version.split('.')[:2]) + '/site-packages'\n"
        "os.mkdir(packages + '/evil-1.0.dist-info')\n"
        "os.symlink('/dev/zero', packages + '/evil-1.0.dist-info/METADATA')\nos.mkfifo(packages + '/evil.so')",
        "MiB of memory|can't be used|took too long",
    ),
    "locks its folders": (
        "import os\nhome = os.path.dirname(os.environ['TMPDIR'])\nos.makedirs(home + '/a/b/c')\n"
        "open(home + '/a/b/c/file', 'w').close()\nos.chmod(home + '/a/b', 0)\nos.chmod(home + '/a', 0)\n"
        "os.chmod(home, 0)\nraise SystemExit(1)",
        "could not be built",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_setup_py_ends_its_own_build_and_nothing_else(
    place: Place, function: str, name: str, kind: str
) -> None:
    if kind == "fills the private /tmp" and not place.boxed:
        pytest.skip("without a sandbox there is no private /tmp")
    setup, said = HOSTILE[kind]
    if kind == "forks without end" and not place.boxed:
        said += "|took too long"  # no kernel bound: on a busy machine hundreds of them hold up whoever counts them
    client, pid = place.client, place.server.pid
    client.deploy(function, "def main(): return 'before'")
    label, start = new_label("hostile"), len(client.seen)
    body = {"request_id": label, **upload_body(USER.format(name), place.source(name, setup))}
    client.publish(f"faas/admin/upload/{function}", body)
    calls = 0
    while not client.answers(label):
        assert client.call("good", "beside") == "beside"
        calls += 1
        assert calls < 100_000
    answer = client.answer_to(label, start).body
    assert answer["code"] == "build_failed", answer
    assert any(each in answer["error"] for each in said.split("|")), str(answer)
    assert len(answer["detail"].splitlines()) <= 40
    assert client.call(function) == "before"
    assert (place.server.pid, place.server.process and place.server.process.poll()) == (pid, None)
    assert len(list((place.server.functions_dir / function / "environments").iterdir())) == 1


STAYERS = {
    "a child": "subprocess.Popen(command)",
    "a child in a session of its own": "subprocess.Popen(command, start_new_session=True)",
    "a daemon": (
        "if not os.fork():\n    os.setsid()\n    if not os.fork(): os.execvp(command[0], command)\n"
        "    os._exit(0)\nos.wait()"
    ),
}


@pytest.mark.parametrize("kind", STAYERS)
def test_nothing_outlives_a_build(place: Place, function: str, name: str, kind: str) -> None:
    mark = f"600.{abs(hash(name)) % 10**9}"
    setup = (
        "import os, subprocess, time\nran = os.path.dirname(os.environ['TMPDIR']) + '/ran'\n"
        f"command = ['sh', '-c', f'exec >/dev/null 2>&1; touch {{ran}}; exec sleep {mark}']\n{STAYERS[kind]}\n"
        "while not os.path.exists(ran): time.sleep(0.01)\n"
    )
    place.client.deploy(function, USER.format(name), place.source(name, setup))
    assert place.client.call(function) == 42
    assert not running(f"sleep {mark}")


def test_code_that_is_built_sees_neither_the_servers_files_nor_its_secrets(
    place: Place, function: str, name: str
) -> None:
    if not place.boxed:
        pytest.skip("without a sandbox it can read what the server can")
    server = place.server
    secret = [server.data_dir, server.data_dir / "functions.json", server.functions_dir / "good", "/etc/mosquitto",
              "/etc/tinyfaas", "/etc/shadow", "/root", "/home", f"/proc/{server.pid}"]  # fmt: skip
    place.client.deploy(function, "def main(): return 'before'")
    home = server.functions_dir / function
    unwritable = [Path(folder, "x") for folder in ("/", "/usr", "/etc", home, home / "environments", server.home,
                                                   place.grounds.wheel_house)]  # fmt: skip
    setup = f"""
        import os, signal
        def tried(what):
            try: return what()
            except OSError as error: return type(error).__name__
        print("found", [path for path in {list(map(str, secret))} if os.path.exists(path)], "end")
        for path in {list(map(str, unwritable))}:
            if tried(lambda: open(path, "w").close()) is None and os.path.exists(path): print("wrote", path)
        print("functions", os.listdir({str(server.functions_dir)!r}), "end")
        print("kill", tried(lambda: os.kill({server.pid}, 9)), "end")
        print("mine", [name for name in os.environ if name.startswith("TINYFAAS") or "NOTIFY" in name], "end")
        print([line.strip() for line in open("/proc/self/status") if line.startswith(("NoNew", "CapEff"))])
        raise SystemExit(1)
    """
    said = place.client.upload(function, USER.format(name), place.source(name, setup))["detail"]
    assert "found [] end" in said, said
    assert f"functions ['{function}'] end" in said
    assert "kill ProcessLookupError end" in said
    assert "mine [] end" in said
    assert "['CapEff:\\t0000000000000000', 'NoNewPrivs:\\t1']" in said
    assert not any(Path(path).exists() for path in unwritable)


def test_without_a_sandbox_it_sees_no_secrets_in_its_environment(place: Place, function: str, name: str) -> None:
    setup = "import os\nprint('saw', [n for n in os.environ if n.startswith('TINYFAAS')], 'end')\nraise SystemExit(1)"
    assert "saw [] end" in place.client.upload(function, USER.format(name), place.source(name, setup))["detail"]


def test_a_sound_setup_py_is_built(place: Place, function: str, name: str) -> None:
    setup = "import os, tempfile\ntempfile.TemporaryFile().write(bytes(1 << 20))\nassert os.nice(0) >= 10"
    place.client.deploy(function, USER.format(name), place.source(name, setup))
    assert place.client.call(function) == 42
    info = place.client.request(f"faas/admin/info/{function}")
    assert info["requirements"] == [f"{name}==1.0"]
    assert info["python"] == platform.python_version()
    environment = next((place.server.functions_dir / function / "environments").iterdir())
    assert not (environment / ".build").exists()


def test_modules_are_compiled_where_functions_could_not_do_it(place: Place, function: str, name: str) -> None:
    place.client.deploy(function, USER.format(name), str(packages.wheel(place.grounds.new_wheels(), name)))
    found = list((place.server.functions_dir / function / "environments").rglob(f"{name}.*.pyc"))
    assert bool(found) == place.boxed


def test_a_build_leaves_room_on_the_disk(bench: Bench, function: str, name: str) -> None:
    disk = small_disk(bench.grounds.new_folder("disk"), bench.grounds.account, 192 * 1024 * 1024)
    if isinstance(disk, str):
        pytest.skip(disk)
    try:
        broker = bench.broker()
        bench.server(broker, home=disk.folder).start()
        client = bench.client(broker)
        client.deploy("good", GOOD)
        setup, _ = HOSTILE["fills the disk"]
        line = packages.source(bench.grounds.new_wheels(), name, setup)
        answer = client.upload(function, USER.format(name), str(line))
        assert "the disk has less than 64 MiB left" in answer["error"], answer
        assert client.call("good", 1) == 1
        assert disk.free_bytes() > 150 * 1024 * 1024
    finally:
        bench.clear()
        disk.unmount()


def test_a_build_dies_with_the_server_and_leaves_nothing(bench: Bench, function: str, name: str) -> None:
    broker = bench.broker()
    server = bench.server(broker, {"sandbox_mode": "required"}).start()
    client = bench.client(broker)
    mark = f"600.{abs(hash(name)) % 10**9}"
    line = packages.source(bench.grounds.new_wheels(), name, f"import os; os.execvp('sleep', ['sleep', '{mark}'])")
    client.publish(f"faas/admin/upload/{function}", upload_body(USER.format(name), str(line)), qos=0)
    eventually(lambda: running(f"sleep {mark}"), "the build to run")
    server.kill()
    eventually(lambda: not running(f"sleep {mark}"), "the build to be gone")
    server.start()
    assert not (server.functions_dir / function).exists()


def test_a_wheel_house_that_is_not_there_is_said(bench: Bench, function: str) -> None:
    broker = bench.broker()
    bench.server(broker, {"uploads_wheel_house": "/no/such/folder"}).start()
    answer = bench.client(broker).upload(function, GOOD)
    assert (answer["code"], answer["error"]) == (
        "build_failed", "uploads.wheel_house: there is no folder /no/such/folder"
    )  # fmt: skip


# --- machines ---------------------------------------------------------------------------------------------------------


def test_a_wheel_for_another_machine_is_refused_with_both_names(place: Place, function: str, name: str) -> None:
    tag = f"{PYTHON}-{PYTHON}-manylinux2014_{OTHER_NAME}"
    wheel = packages.wheel(place.grounds.new_wheels(), name, tag=tag)
    answer = place.client.upload(function, USER.format(name), str(wheel))
    assert answer["code"] == "build_failed"
    for part in (wheel.name, OTHER_NAME, platform.machine()):
        assert part in answer["error"], answer


@pytest.mark.parametrize("tag", [f"{PYTHON}-{PYTHON}-linux_{OTHER_NAME}", "cp27-cp27mu-linux_armv6l"])
def test_a_wheel_house_for_another_machine_is_named(place: Place, function: str, name: str, tag: str) -> None:
    wheel = packages.wheel(place.grounds.wheel_house, name, tag=tag)
    answer = place.client.upload(function, USER.format(name), f"--no-index\n{name}")
    assert answer["code"] == "build_failed"
    for part in (wheel.name, tag.rpartition("-")[2], platform.machine()):
        assert part in answer["error"], answer


@pytest.mark.parametrize("inside", ["{0}_fast.abi3.so", "{0}_parts/lib{0}.so.1"])
def test_a_library_for_another_machine_is_refused_before_the_first_call(
    place: Place, function: str, name: str, inside: str
) -> None:
    path = inside.format(name)
    wheel = packages.wheel(place.grounds.new_wheels(), name, files={path: packages.library(OTHER)})
    place.client.deploy(function, "def main(): return 'before'")
    answer = place.client.upload(function, USER.format(name), str(wheel))
    assert answer["code"] == "build_failed"
    for part in (path, OTHER_NAME, platform.machine()):
        assert part in answer["error"], answer
    assert place.client.call(function) == "before"


# --- what pip is told -------------------------------------------------------------------------------------------------


def test_only_wheels_are_installed_where_that_is_set(bench: Bench, function: str, name: str) -> None:
    broker, house = bench.broker(), bench.grounds.new_wheels()
    settings = {"uploads_only_binary": True, "uploads_no_index": True, "uploads_wheel_house": house}
    bench.server(broker, settings).start()
    client = bench.client(broker)
    line = packages.source(house, name, "raise SystemExit('it was run')")
    for requirements in (name, str(line), f"{name} @ file://{line}", f"--no-binary :all:\n{name}", f"-e {house}"):
        answer = client.upload(function, USER.format(name), requirements)
        assert answer["code"] == "build_failed", answer
        assert "it was run" not in answer["detail"]
    packages.wheel(house, f"{name}_ready")
    client.deploy(function, USER.format(f"{name}_ready"), f"{name}_ready")
    assert client.call(function) == 42


@pytest.mark.parametrize("mode", ["required", "off"])
def test_a_wheel_house_without_an_index_needs_no_network(bench: Bench, function: str, name: str, mode: str) -> None:
    broker, house = bench.broker(), bench.grounds.new_wheels()
    server = bench.server(broker, {"uploads_wheel_house": house, "uploads_no_index": True, "sandbox_mode": mode})
    server.environ = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_PROXY": "http://127.0.0.1:9"}
    server.start()
    client = bench.client(broker)
    packages.wheel(house, name)
    client.deploy(function, USER.format(name), name)
    assert client.call(function) == 42


@pytest.mark.parametrize("where", ["PIP_CONFIG_FILE", ".config/pip/pip.conf", ".pip/pip.conf", "PIP_FIND_LINKS"])
def test_pips_own_configuration_reaches_it(bench: Bench, function: str, name: str, where: str) -> None:
    broker, folder = bench.broker(), bench.grounds.new_folder("links")
    packages.wheel(folder, name)
    server = bench.server(broker, {"uploads_no_index": True, "sandbox_mode": "required"})
    if where == "PIP_FIND_LINKS":
        server.environ = {where: f"{folder}"}
    else:
        folder_of_it = bench.grounds.new_folder("configuration")
        file = folder_of_it / "pip.conf" if where.isupper() else server.home / where
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"[install]\nfind-links =\n    /nowhere\n    {folder.as_uri()}\n", encoding="utf-8")
        server.environ = {where: str(file), "PIP_FIND_LINKS": ""} if where.isupper() else {"PIP_FIND_LINKS": ""}
    server.start()
    client = bench.client(broker)
    client.deploy(function, USER.format(name), name)
    assert client.call(function) == 42


class _Index(BaseHTTPRequestHandler):
    """An index behind a proxy: whatever is asked for, it is this one wheel."""

    wheel: Path
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        link = f'<a href="{self.wheel.name}">{self.wheel.name}</a>'.encode()
        content = self.wheel.read_bytes() if self.path.endswith(".whl") else link
        self.send_response(200)
        self.send_header("Content-Type", "application/zip" if self.path.endswith(".whl") else "text/html")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


def test_a_proxy_and_an_index_reach_pip_inside_the_sandbox(bench: Bench, function: str, name: str) -> None:
    _Index.wheel, _Index.asked = packages.wheel(bench.grounds.new_folder("remote"), name), []
    with ThreadingHTTPServer(("127.0.0.1", 0), _Index) as proxy:
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        try:
            broker = bench.broker()
            server = bench.server(broker, {"sandbox_mode": "required"})
            address = f"http://127.0.0.1:{proxy.server_address[1]}"
            server.environ = {
                "http_proxy": address, "PIP_INDEX_URL": "http://packages.invalid/simple",
                "PIP_TRUSTED_HOST": "packages.invalid", "PIP_EXTRA_INDEX_URL": "", "PIP_CONFIG_FILE": "/dev/null",
            }  # fmt: skip
            server.start()
            client = bench.client(broker)
            client.deploy(function, USER.format(name), name)
            assert client.call(function) == 42
        finally:
            proxy.shutdown()
            thread.join()
    assert _Index.asked[0].startswith("http://packages.invalid/simple/")


def test_a_path_on_the_device_that_nobody_showed_is_not_there(place: Place, function: str, name: str) -> None:
    if not place.boxed:
        pytest.skip("without a sandbox it can read what the server can")
    wheel = packages.wheel(place.grounds.new_folder("elsewhere"), name)
    assert place.client.upload(function, USER.format(name), str(wheel))["code"] == "build_failed"
