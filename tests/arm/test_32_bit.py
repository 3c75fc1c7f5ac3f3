"""A Pi of 32 bits, such as a Zero or one with the older Raspberry Pi OS. qemu-user knows neither bubblewrap's
namespaces nor seccomp: that they are used where there is a kernel for it, the other tests show.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.arm.small_pi import ENVIRONMENT, SmallPi
from tests.harness.bench import Bench
from tests.harness.client import upload_body
from tests.harness.installation import CHECKOUT

pytestmark = pytest.mark.timeout(3600)

PYTHON = "/opt/tinyfaas/bin/python"
HOME = "/srv/tinyfaas"
BUILD_S = 900.0


@pytest.fixture(scope="module")
def pi() -> Iterator[SmallPi]:
    """One that tinyfaas was installed on, with Debian's psutil: not every registry has a wheel of it."""
    pi = SmallPi()
    pi.copy(CHECKOUT, "/opt/checkout", "tinyfaas", "pyproject.toml", "README.md", "LICENSE")
    pi.run("python3", "-m", "venv", "--system-site-packages", "/opt/tinyfaas")
    pi.run(PYTHON, "-m", "pip", "install", "--quiet", "/opt/checkout")
    yield pi
    pi.clear()


def test_its_environment_builds_with_debians_psutil(pi: SmallPi) -> None:
    said = pi.run(
        PYTHON,
        "-c",
        "import platform, psutil, struct; print(platform.machine(), struct.calcsize('P'), psutil.__file__)",
    )

    assert said.split() == ["armv7l", "4", "/usr/lib/python3/dist-packages/psutil/__init__.py"]
    assert "No broken requirements" in pi.run(PYTHON, "-m", "pip", "check")


def test_its_server_starts_builds_and_answers(pi: SmallPi, bench: Bench, tmp_path: Path) -> None:
    broker = bench.broker()
    pi.run("install", "--directory", "--owner=nobody", HOME)
    settings = {
        "TINYFAAS_MQTT_HOST": "127.0.0.1", "TINYFAAS_MQTT_PORT": str(broker.port), "TINYFAAS_NODE": "small",
        "TINYFAAS_DATA_DIR": f"{HOME}/data", "TINYFAAS_FUNCTIONS_DIR": f"{HOME}/functions",
        "TINYFAAS_UPLOADS_BUILD_TIMEOUT_S": str(BUILD_S), "TINYFAAS_POOL_START_TIMEOUT_S": "60",
    }  # fmt: skip
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            pi.command(PYTHON, "-m", "tinyfaas", "serve", account="nobody:nogroup"), env=ENVIRONMENT | settings,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        with bench.client(broker) as client:
            client.wait(lambda message: message.body.get("state") == "online", "the server", timeout_s=120.0)
            code = "import struct\ndef main():\n    return 8 * struct.calcsize('P')\n"
            answer = client.request("faas/admin/upload/bits", upload_body(code), timeout_s=BUILD_S)
            assert answer["status"] == "ok", answer
            assert client.call("bits") == 32
            assert client.request("faas/admin/status")["status"] == "running"
    finally:
        server.terminate()
        status = server.wait(60.0)
        print((tmp_path / "log").read_text(encoding="utf-8"))  # shown with a failure
    assert status == 0
