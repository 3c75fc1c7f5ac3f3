"""What a requirements.txt may hold where only wheels are installed, what pip reads here, and what its refusals mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.packages import wheel
from tinyfaas import elf, installer
from tinyfaas.config import Uploads

WHEELS = [
    "", "# nothing", "numpy", "numpy==1.26.4 ; python_version > '3'", "paho-mqtt[proxy]>=2  # comment",
    "--no-index\nnumpy", "--index-url https://packages.example/simple\nnumpy", "-i https://packages.example/simple",
    "-f /srv/wheels", "--find-links=/srv/wheels", "/srv/wheels/a-1-py3-none-any.whl",
    "a @ https://packages.example/a-1-py3-none-any.whl", "a@https://packages.example/a-1-py3-none-any.whl#sha256=0",
    "file:///srv/wheels/a-1-py3-none-any.whl", "a==1 \\\n  --hash=sha256:00", "--pre --only-binary :all:\na",
]  # fmt: skip
CODE = [
    "--no-binary :all:", "--no-bin :all:", "--pre --no-binary a", "-e .", "-e/srv/a", "--editable git+https://a.example/a",
    "-r other.txt", "-c https://a.example/constraints.txt", "./a", "/srv/a", "/srv/a-1.tar.gz", "a @ file:///srv/a-1.zip",
    "https://a.example/a-1.tar.gz", "https://a.example/a-1.tar.gz?x=.whl", "https://a.example/a-1.tar.gz#x.whl",
    "git+https://a.example/a.whl", "a @ git+ssh://a.example/a.whl", "a@git+https://a.example/a.whl",
    "a[b] @ git+https://a.example/a.whl", "a --global-option=x", "--no-\\\nbinary :all:", "a @ htt\\\nps://a.example/a.zip",
    "# coding: utf-7\n+AC0ALQ-no-binary :all:", "a\x0c--no-binary :all:", "a\u2028/srv/a",
]  # fmt: skip


@pytest.mark.parametrize("text", WHEELS)
def test_what_is_a_wheel_may_be_wanted(text: str) -> None:
    assert installer.builds_code(text.encode()) == ""


@pytest.mark.parametrize("text", CODE)
def test_what_could_be_something_else_may_not(text: str) -> None:
    assert installer.builds_code(text.encode())


@pytest.mark.parametrize("data", ["--no-binary a".encode("utf-16"), b"\xff", "\ufeff--no-binary a".encode()])
def test_what_pip_reads_in_another_encoding_may_not(data: bytes) -> None:
    assert installer.builds_code(data)


def test_pip_sees_its_configuration_and_what_that_names(tmp_path: Path) -> None:
    house, certificate, key = tmp_path / "house", tmp_path / "ca.pem", tmp_path / "key.pem"
    house.mkdir()
    for file in (certificate, key):
        file.touch()
    user = tmp_path / ".config" / "pip" / "pip.conf"
    user.parent.mkdir(parents=True)
    log = tmp_path / "pip.log"
    log.touch()
    user.write_text(f"[global]\nextra-index-url = file://{house}\n  https://a.example\nlog = {log}\ncert=~/ca.pem\n")
    environ = {"HOME": str(tmp_path), "PIP_CLIENT_CERT": str(key), "TINYFAAS_MQTT_PASSWORD_FILE": str(log)}
    found = installer.reads(environ, Uploads())
    assert {user, house, certificate, key} <= set(found)
    assert not {log, tmp_path} & set(found)


def test_an_index_on_disk_is_seen_with_the_files_beside_it(tmp_path: Path) -> None:
    index = tmp_path / "index" / "simple"
    index.mkdir(parents=True)
    assert tmp_path / "index" in installer.reads({"PIP_INDEX_URL": index.as_uri()}, Uploads())


def test_a_broken_configuration_is_left_to_pip(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text("what = \x00 [")
    assert tmp_path / "pip.conf" in installer.reads({"PIP_CONFIG_FILE": str(tmp_path / "pip.conf")}, Uploads())


def test_a_build_has_variables_of_pip_and_none_of_the_server(tmp_path: Path) -> None:
    environ = {
        "PIP_INDEX_URL": "i", "https_proxy": "p", "REQUESTS_CA_BUNDLE": "c", "PATH": "/bin", "PIP_CACHE_DIR": "/srv",
        "TINYFAAS_MQTT_PASSWORD": "s", "NOTIFY_SOCKET": "n", "CREDENTIALS_DIRECTORY": "d", "PIP_LOG": "/srv/log",
    }  # fmt: skip
    assert installer.variables(environ, tmp_path) == {
        "PIP_INDEX_URL": "i", "https_proxy": "p", "REQUESTS_CA_BUNDLE": "c", "PATH": "/bin", "PIP_LOG": "",
        "TMPDIR": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path),
    }  # fmt: skip


def test_the_settings_become_options_of_pip(tmp_path: Path) -> None:
    settings = Uploads(only_binary=True, wheel_house="/srv/wheels", no_index=True)
    command = " ".join(
        installer.command(Path("/e/bin/python"), tmp_path / "requirements.txt", settings, compile_all=True)
    )
    assert "--only-binary :all: --find-links /srv/wheels --no-index --requirement" in command
    assert "--no-compile" not in command
    assert "--no-cache-dir" in command


def test_a_wheel_that_does_not_fit_is_named_with_both_machines() -> None:
    said = installer.refusal(
        ["ERROR: a-1-cp27-cp27mu-linux_mips.whl is not a supported wheel on this platform."], Uploads()
    )
    assert said.startswith(
        "a-1-cp27-cp27mu-linux_mips.whl can't be installed here: it is for linux_mips and Python cp27"
    )
    assert said.endswith(f"for {elf.own_name()}")


def test_what_a_wheel_house_has_for_others_is_named_only_if_it_does_not_fit(tmp_path: Path) -> None:
    settings = Uploads(wheel_house=str(tmp_path))
    wheel(tmp_path, "A_b", "1.0", tag=f"py3-none-manylinux2014_{elf.own_name()}")
    wheel(tmp_path, "A_bc", "1.0", tag="py3-none-linux_mips")
    lines = ["ERROR: No matching distribution found for a-b>=2"]
    assert installer.refusal(lines, settings) == (
        "the environment could not be built: No matching distribution found for a-b>=2"
    )
    wheel(tmp_path, "A_b", "2.0", tag="py3-none-linux_mips")
    assert installer.refusal(lines, settings).startswith("A_b-2.0-py3-none-linux_mips.whl can't be installed here")


def test_what_is_no_error_of_pips_is_in_the_detail() -> None:
    assert installer.refusal(["Killed"], Uploads()) == "the environment could not be built: see detail"
