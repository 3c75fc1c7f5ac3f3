"""Uploads that must be signed: real keys, a real server, and every way to get past it that comes to mind."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.harness.bench import Bench, Grounds
from tests.harness.client import Client, upload_body
from tests.harness.installation import CHECKOUT
from tests.harness.server import Server
from tests.harness.waiting import PATIENCE_S, eventually
from tinyfaas.exits import Exit

CODE = "def main(): return {}"


@dataclass(frozen=True)
class Key:
    """A key pair and the one it belongs to."""

    file: Path
    principal: str

    @property
    def line(self) -> str:
        """Its line in a file of allowed signers."""
        kind, key, *_ = Path(f"{self.file}.pub").read_text(encoding="ascii").split()
        return f"{self.principal} {kind} {key}\n"

    def signature(self, text: bytes, namespace: str = "tinyfaas-upload") -> str:
        """Its armoured signature of a text."""
        command = ["ssh-keygen", "-Y", "sign", "-n", namespace, "-f", str(self.file)]
        return subprocess.run(command, input=text, capture_output=True, check=True).stdout.decode()


def new_key(folder: Path, name: str) -> Key:
    """A new key without a passphrase."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / name], check=True)
    return Key(folder / name, f"{name}@example.net")


def at(seconds: float = 0.0) -> str:
    """The time of the wall clock in so many seconds, as a signature says it."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def canonical(function: str, body: Mapping[str, Any]) -> bytes:
    """What docs/protocol.md says a signature is over."""
    signed = {"function": function, "req_b64": "", "config": {}, "node": ""}
    signed |= {key: body[key] for key in ("code_b64", "req_b64", "config", "node", "signed_at") if key in body}
    return json.dumps(signed, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def signed(key: Key, function: str, body: Mapping[str, Any], namespace: str = "tinyfaas-upload") -> dict[str, Any]:
    """An upload with its signature, made now unless it says otherwise."""
    body = {"signed_at": at(), **body}
    return {**body, "signature": key.signature(canonical(function, body), namespace)}


@pytest.fixture(scope="module")
def keys(grounds: Grounds) -> Path:
    """A folder for keys and for files that name them."""
    return grounds.new_folder("keys")


@pytest.fixture(scope="module")
def alice(keys: Path) -> Key:
    """Who may upload."""
    return new_key(keys, "alice")


@pytest.fixture(scope="module")
def bob(keys: Path) -> Key:
    """Who may upload, too."""
    return new_key(keys, "bob")


@pytest.fixture(scope="module")
def mallory(keys: Path) -> Key:
    """Who may not."""
    return new_key(keys, "mallory")


@pytest.fixture(scope="module")
def signers(keys: Path, alice: Key, bob: Key) -> Path:
    """The file of allowed signers."""
    file = keys / "allowed_signers"
    file.write_text(alice.line + bob.line, encoding="ascii")
    return file


@pytest.fixture(scope="module")
def own_bench(grounds: Grounds) -> Iterator[Bench]:
    """For a server that takes no upload but from its signers."""
    bench = Bench(grounds)
    yield bench
    bench.clear()


@pytest.fixture(scope="module")
def wary(own_bench: Bench, signers: Path) -> Server:
    """That server, with a broker of its own."""
    return own_bench.server(own_bench.broker(), {"uploads_allowed_signers": signers}).start()


@pytest.fixture
def client(wary: Server) -> Iterator[Client]:
    """A client of that server."""
    with Client(wary.broker.port) as client:
        yield client


def upload(client: Client, function: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to an upload."""
    return client.request(f"faas/admin/upload/{function}", body)


def refusal(client: Client, function: str, body: Mapping[str, Any]) -> str:
    """Why an upload is forbidden, which it must be, in one line and before anything is built."""
    start = len(client.seen)
    answer = upload(client, function, body)
    assert answer["status"] == "error", answer
    assert answer["code"] == "forbidden", answer
    assert "\n" not in answer["error"]
    client.settle()
    phases = {each.body.get("phase") for each in client.seen[start:] if each.topic == f"faas/event/upload/{function}"}
    assert phases <= {"queued", "failed"}
    return str(answer["error"])


# --- who may -------------------------------------------------------------------------------------------------------


def test_a_signed_upload_is_built_and_info_says_who_signed_which_version(
    client: Client, function: str, alice: Key, bob: Key
) -> None:
    config = {"timeout_s": 5, "memory_mb": 64}
    body = signed(alice, function, upload_body(CODE.format(1), "# none\n", config))
    assert upload(client, function, body)["version"] == 1
    assert upload(client, function, signed(bob, function, upload_body(CODE.format(2))))["version"] == 2
    assert client.call(function) == 2
    versions = client.request(f"faas/admin/info/{function}")["versions"]
    assert [each["signed_by"] for each in versions] == [alice.principal, bob.principal]


def test_an_upload_for_this_node_by_name_is_taken(client: Client, wary: Server, function: str, alice: Key) -> None:
    body = signed(alice, function, {**upload_body(CODE.format(1)), "node": wary.node})
    assert upload(client, function, body)["status"] == "ok"


def test_what_is_signed_is_text_in_utf_8_with_keys_in_order(client: Client, function: str, alice: Key) -> None:
    config = {"timeout_s": 5.0, "retry": {"on": ["timeout"], "backoff_s": 0.5, "attempts": 2}}
    body = signed(alice, function, {**upload_body("# ä\n" + CODE.format(1)), "config": config})
    assert upload(client, function, body)["status"] == "ok"


def test_an_unsigned_upload_is_forbidden(client: Client, function: str) -> None:
    assert '"signature" is missing' in refusal(client, function, upload_body(CODE.format(1)))


def test_a_signature_without_its_time_is_forbidden(client: Client, function: str, alice: Key) -> None:
    body = signed(alice, function, upload_body(CODE.format(1)))
    del body["signed_at"]
    assert '"signed_at" is missing' in refusal(client, function, body)


def test_a_key_that_nobody_allowed_is_forbidden(client: Client, function: str, mallory: Key) -> None:
    body = signed(mallory, function, upload_body(CODE.format(1)))
    assert "not among those who may upload" in refusal(client, function, body)


def test_a_signature_for_another_purpose_is_forbidden(client: Client, function: str, alice: Key) -> None:
    body = signed(alice, function, upload_body(CODE.format(1)), namespace="file")
    assert "not for tinyfaas-upload" in refusal(client, function, body)


@pytest.mark.parametrize(
    "signature",
    [
        "yes",
        "-----BEGIN SSH SIGNATURE-----",
        "-----BEGIN SSH SIGNATURE-----\n!!!\n-----END SSH SIGNATURE-----\n",
        "-----BEGIN SSH SIGNATURE-----\nU1NIU0lH\n-----END SSH SIGNATURE-----\n",
        "-----BEGIN SSH SIGNATURE-----" + "A" * 70_000,
        "-----BEGIN SSH SIGNATURE-----\nä\n-----END SSH SIGNATURE-----\n",
    ],
)
def test_what_is_no_signature_is_forbidden(client: Client, function: str, signature: str) -> None:
    body = {**upload_body(CODE.format(1)), "signed_at": at(), "signature": signature}
    refusal(client, function, body)


@pytest.mark.parametrize(
    "wrong",
    [{"signature": 5}, {"signature": None}, {"signature": ["x"]}, {"signed_at": 1_700_000_000}, {"signed_at": "today"}],
)
def test_what_is_of_the_wrong_type_is_a_bad_request(
    client: Client, function: str, alice: Key, wrong: dict[str, Any]
) -> None:
    answer = upload(client, function, {**signed(alice, function, upload_body(CODE.format(1))), **wrong})
    assert answer["code"] == "bad_request"
    assert next(iter(wrong)) in answer["error"]


# --- what it holds for ---------------------------------------------------------------------------------------------

OTHER: dict[str, dict[str, Any]] = {
    "code": {"code_b64": base64.b64encode(b"def main(): return 'mine'").decode()},
    "requirements": {"req_b64": base64.b64encode(b"something==1\n").decode()},
    "no requirements": {"req_b64": ""},
    "settings": {"config": {"timeout_s": 6}},
    "a setting's type": {"config": {"timeout_s": 5.0}},
    "no settings": {"config": {}},
    "time": {"signed_at": at(1)},
}


@pytest.mark.parametrize("what", OTHER)
def test_what_differs_from_what_was_signed_is_forbidden(client: Client, function: str, alice: Key, what: str) -> None:
    body = signed(alice, function, upload_body(CODE.format(1), "# none\n", {"timeout_s": 5}))
    assert "differs from what was signed" in refusal(client, function, {**body, **OTHER[what]})
    assert function not in client.request("faas/admin/list")["functions"]


def test_a_signature_holds_for_its_function_alone(client: Client, function: str, alice: Key) -> None:
    body = signed(alice, function, upload_body(CODE.format(1)))
    assert "differs" in refusal(client, f"{function}-2", body)
    assert "differs" in refusal(client, f"{function}-2", {**body, "function": f"{function}-2"})


def test_a_signature_for_another_node_is_forbidden_here(
    client: Client, wary: Server, function: str, alice: Key
) -> None:
    body = signed(alice, function, {**upload_body(CODE.format(1)), "node": "elsewhere"})
    assert "differs" in refusal(client, function, {**body, "node": wary.node})
    del body["node"]
    assert "differs" in refusal(client, function, body)


# --- how long, and how often ---------------------------------------------------------------------------------------


def test_a_signature_too_old_is_forbidden(client: Client, function: str, alice: Key) -> None:
    body = signed(alice, function, {**upload_body(CODE.format(1)), "signed_at": at(-3700)})
    assert re.search(
        r"signed 37\d\d s ago, at most 3600 are allowed; this device's clock", refusal(client, function, body)
    )


def test_a_signature_from_the_future_is_forbidden(client: Client, function: str, alice: Key) -> None:
    body = signed(alice, function, {**upload_body(CODE.format(1)), "signed_at": at(400)})
    assert "in the future, at most 300 are allowed" in refusal(client, function, body)


def test_a_signed_upload_counts_once(client: Client, function: str, alice: Key) -> None:
    body = signed(alice, function, upload_body(CODE.format(1)))
    assert upload(client, function, body)["status"] == "ok"
    assert "sign it again" in refusal(client, function, body)


def test_an_upload_signed_before_the_one_that_serves_is_forbidden(
    client: Client, function: str, alice: Key, bob: Key
) -> None:
    before = signed(alice, function, upload_body(CODE.format("'old'")))
    assert upload(client, function, signed(bob, function, upload_body(CODE.format("'new'"))))["status"] == "ok"
    assert "sign it again" in refusal(client, function, before)
    assert client.call(function) == "new"


def test_after_a_rollback_and_restarts_no_old_signature_counts_again(
    bench: Bench, signers: Path, function: str, alice: Key
) -> None:
    broker = bench.broker()
    server = bench.server(broker, {"uploads_allowed_signers": signers, "uploads_keep_versions": 2}).start()
    bodies = [signed(alice, function, upload_body(CODE.format(number))) for number in (1, 2, 3)]
    with Client(broker.port) as client:
        for body in bodies:
            assert upload(client, function, body)["status"] == "ok"
        assert client.request(f"faas/admin/rollback/{function}")["version"] == 2
        for body in bodies:
            assert "sign it again" in refusal(client, function, body)
        server.restart()
        for body in bodies:
            assert "sign it again" in refusal(client, function, body)
        assert client.call(function) == 2
        versions = client.request(f"faas/admin/info/{function}")["versions"]
        assert {each["signed_by"] for each in versions} == {alice.principal}
        server.kill()
        server.start()
        assert "sign it again" in refusal(client, function, bodies[2])
        assert upload(client, function, signed(alice, function, upload_body(CODE.format(4))))["version"] == 4


def test_after_a_delete_and_a_restart_no_old_signature_counts_again(
    bench: Bench, signers: Path, function: str, alice: Key
) -> None:
    broker = bench.broker()
    server = bench.server(broker, {"uploads_allowed_signers": signers}).start()
    body = signed(alice, function, upload_body(CODE.format(1)))
    with Client(broker.port) as client:
        assert upload(client, function, body)["status"] == "ok"
        assert client.request(f"faas/admin/delete/{function}")["status"] == "deleted"
        assert "deleted" in refusal(client, function, body)
        server.restart()
        assert "deleted" in refusal(client, function, body)
        assert upload(client, function, signed(alice, function, upload_body(CODE.format(2))))["status"] == "ok"


def test_an_upload_that_could_not_be_built_may_be_sent_again(client: Client, function: str, alice: Key) -> None:
    body = signed(alice, function, upload_body("import missing_module"))
    for _ in range(2):
        assert upload(client, function, body)["code"] == "build_failed"


def test_a_clock_set_back_makes_no_old_signature_young_again(
    bench: Bench, signers: Path, function: str, alice: Key
) -> None:
    """What was taken last tells that it is later than the clock says."""
    broker = bench.broker()
    server = bench.server(broker, {"uploads_allowed_signers": signers, "uploads_signature_max_ahead_s": 60}).start()
    with Client(broker.port) as client:
        assert upload(client, function, signed(alice, function, upload_body(CODE.format(1))))["status"] == "ok"
        assert server.stop() == 0
        registry = server.data_dir / "functions.json"
        document = json.loads(registry.read_bytes())
        document[function]["signed_at"] = at(7200)
        registry.write_text(json.dumps(document), encoding="utf-8")
        server.start()
        assert "s ago" in refusal(client, f"{function}-2", signed(alice, f"{function}-2", upload_body(CODE.format(2))))


# --- the file of allowed signers ------------------------------------------------------------------------------------


def test_the_file_is_read_for_each_upload(bench: Bench, keys: Path, function: str, alice: Key, mallory: Key) -> None:
    broker, file = bench.broker(), keys / "changing"
    file.write_text(alice.line, encoding="ascii")
    server = bench.server(broker, {"uploads_allowed_signers": file}).start()
    with Client(broker.port) as client:
        refusal(client, function, signed(mallory, function, upload_body(CODE.format(1))))
        file.write_text(mallory.line, encoding="ascii")
        assert upload(client, function, signed(mallory, function, upload_body(CODE.format(2))))["status"] == "ok"
        refusal(client, function, signed(alice, function, upload_body(CODE.format(3))))
        file.write_text("", encoding="ascii")
        refusal(client, function, signed(mallory, function, upload_body(CODE.format(4))))
        file.unlink()
        body = signed(mallory, function, upload_body(CODE.format(5)))
        assert "can't be read: No such file or directory" in refusal(client, function, body)
        assert str(file) not in refusal(client, function, body)
        assert client.call(function) == 2
    assert server.log.wait(event="signers_unreadable")


@pytest.mark.parametrize("options", ['valid-before="20200101"', 'namespaces="git"'])
def test_what_the_file_says_of_a_key_is_obeyed(
    bench: Bench, keys: Path, function: str, alice: Key, options: str
) -> None:
    broker, file = bench.broker(), keys / "restricted"
    file.write_text(alice.line.replace(" ", f" {options} ", 1), encoding="ascii")
    bench.server(broker, {"uploads_allowed_signers": file}).start()
    with Client(broker.port) as client:
        refusal(client, function, signed(alice, function, upload_body(CODE.format(1))))


def test_an_authority_may_say_who_may_upload(bench: Bench, keys: Path, function: str) -> None:
    authority, dora = new_key(keys, "authority"), new_key(keys, "dora")
    certify = ["ssh-keygen", "-q", "-s", str(authority.file), "-I", "dora", "-n", dora.principal, f"{dora.file}.pub"]
    subprocess.run(certify, check=True)
    broker, file = bench.broker(), keys / "authorities"
    file.write_text(authority.line.replace(authority.principal, "*@example.net cert-authority", 1), encoding="ascii")
    bench.server(broker, {"uploads_allowed_signers": file}).start()
    with Client(broker.port) as client:
        refusal(client, function, signed(dora, function, upload_body(CODE.format(1))))
        certified = Key(dora.file.with_name("dora-cert.pub"), dora.principal)
        assert upload(client, function, signed(certified, function, upload_body(CODE.format(2))))["status"] == "ok"
        assert client.request(f"faas/admin/info/{function}")["versions"][0]["signed_by"] == dora.principal


def test_signers_that_the_server_could_change_are_warned_of(bench: Bench, keys: Path, alice: Key) -> None:
    file = keys / "owned"
    file.write_text(alice.line, encoding="ascii")
    server = bench.server(bench.broker(), {"uploads_allowed_signers": bench.grounds.account.own(file)}).start()
    assert server.log.wait(event="signers_writable")["path"] == str(file)


def test_without_ssh_keygen_nothing_is_taken_and_the_log_says_so(
    bench: Bench, signers: Path, function: str, alice: Key
) -> None:
    broker = bench.broker()
    server = bench.server(broker, {"uploads_allowed_signers": signers})
    server.environ["PATH"] = "/nonexistent"
    server.start()
    with Client(broker.port) as client:
        body = signed(alice, function, upload_body(CODE.format(1)))
        assert "ssh-keygen, which checks signatures, can't be run" in refusal(client, function, body)
    assert server.log.wait(event="no_ssh_keygen")


def test_list_and_status_answer_while_a_signature_is_checked(
    bench: Bench, signers: Path, function: str, alice: Key
) -> None:
    """With an ssh-keygen that waits until the test lets it go on."""
    broker, folder = bench.broker(), bench.grounds.new_folder("slow")
    os.mkfifo(folder / "gate", 0o644)
    slow = folder / "ssh-keygen"
    slow.write_text(f"#!/bin/sh\necho >{folder}/began\nread line <{folder}/gate\nexit 1\n", encoding="ascii")
    slow.chmod(0o755)
    server = bench.server(broker, {"uploads_allowed_signers": signers})
    server.environ["PATH"] = str(folder)
    server.start()
    with Client(broker.port) as client:
        body = {"request_id": "slow", **signed(alice, function, upload_body(CODE.format(1)))}
        client.publish(f"faas/admin/upload/{function}", body)
        eventually((folder / "began").exists, "ssh-keygen to run")
        assert client.request("faas/admin/list")["functions"] == []
        assert client.request("faas/admin/status")["status"] == "running"
        assert not client.answers("slow")
        (folder / "gate").write_text("go on\n", encoding="ascii")
        assert client.answer_to("slow").body["code"] == "forbidden"


def test_where_nobody_need_sign_a_signature_is_not_looked_at(bench: Bench, function: str) -> None:
    broker = bench.broker()
    bench.server(broker).start()
    with Client(broker.port) as client:
        assert upload(client, function, {**upload_body(CODE.format(1)), "signature": 5})["status"] == "ok"
        assert "signed_by" not in client.request(f"faas/admin/info/{function}")["versions"][0]


# --- the command line ----------------------------------------------------------------------------------------------


def tinyfaas(server: Server, *argv: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A command, as the operator types it."""
    environ = {"PATH": "/usr/bin:/bin", "TINYFAAS_MQTT_PORT": str(server.broker.port), **variables}
    return subprocess.run(
        [sys.executable, "-m", "tinyfaas", *argv], env=environ, capture_output=True, text=True, check=False,
        timeout=PATIENCE_S, stdin=subprocess.DEVNULL, start_new_session=True, cwd=CHECKOUT,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, function: str) -> str:
    """The folder of a function with all that an upload can hold."""
    folder = tmp_path / function
    folder.mkdir()
    (folder / "func.py").write_text(CODE.format("'ä'"), encoding="utf-8")
    (folder / "requirements.txt").write_text("# none\n", encoding="utf-8")
    (folder / "function.toml").write_text(
        "timeout_s = 5\nmemory_mb = 64\n[retry]\nbackoff_s = 1.50\n", encoding="utf-8"
    )
    return str(folder)


def test_deploy_signs_with_the_key_it_is_given(client: Client, wary: Server, folder: str, alice: Key) -> None:
    done = tinyfaas(wary, "deploy", folder, "--wait", "--sign", str(alice.file))
    assert done.returncode == Exit.OK, done.stderr
    done = tinyfaas(wary, "deploy", folder, "--wait", "--node", wary.node, TINYFAAS_SIGN_KEY=str(alice.file))
    assert done.returncode == Exit.OK, done.stderr
    name = Path(folder).name
    assert client.call(name) == "ä"
    assert f"signed by {alice.principal}, current" in tinyfaas(wary, "info", name).stdout


def test_deploy_signs_with_a_key_that_the_agent_holds(wary: Server, folder: str, bob: Key, tmp_path: Path) -> None:
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", tmp_path / "agent"], stdout=subprocess.DEVNULL)
    try:
        eventually((tmp_path / "agent").exists, "the agent to listen")
        held = {"SSH_AUTH_SOCK": str(tmp_path / "agent")}
        subprocess.run(["ssh-add", "-q", bob.file], env=held, check=True)
        public = tmp_path / "bob.pub"
        public.write_bytes(Path(f"{bob.file}.pub").read_bytes())
        done = tinyfaas(wary, "deploy", folder, "--wait", "--sign", str(public), **held)
        assert done.returncode == Exit.OK, done.stderr
    finally:
        agent.terminate()
        agent.wait(PATIENCE_S)


def test_deploy_without_a_key_says_that_one_is_needed(wary: Server, folder: str) -> None:
    done = tinyfaas(wary, "deploy", folder)
    assert done.returncode == Exit.FAILED
    assert (
        done.stderr
        == 'tinyfaas: forbidden: uploads must be signed here, and "signature" is missing; --sign KEY signs it\n'
    )


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda file: file.unlink(), "No such file or directory"),
        (lambda file: file.chmod(0o644), "too open"),
        (lambda file: subprocess.run(["ssh-keygen", "-q", "-p", "-N", "secret", "-f", file], check=True), "passphrase"),
    ],
)
def test_a_key_that_can_not_sign_is_said_in_one_line(
    wary: Server, folder: str, tmp_path: Path, spoil: Any, said: str
) -> None:
    key = new_key(tmp_path, "carol")
    spoil(key.file)
    done = tinyfaas(wary, "deploy", folder, "--sign", str(key.file))
    assert done.returncode == Exit.USAGE
    assert re.fullmatch(rf"tinyfaas: {key.file}: .*{said}.*\n", done.stderr), done.stderr


def test_a_machine_without_ssh_keygen_says_so(wary: Server, folder: str, alice: Key) -> None:
    done = tinyfaas(wary, "deploy", folder, "--sign", str(alice.file), PATH="/nonexistent")
    assert done.returncode == Exit.USAGE
    assert done.stderr == "tinyfaas: signing needs ssh-keygen (Debian's package openssh-client)\n"


def test_what_the_protocol_shows_signs_an_upload_in_a_shell(
    client: Client, wary: Server, alice: Key, tmp_path: Path
) -> None:
    page = (CHECKOUT / "docs/protocol.md").read_text(encoding="utf-8")
    section = page.partition("## Signed uploads")[2].partition("\n## ")[0]
    (shown,) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    (tmp_path / "func.py").write_text(CODE.format("'by hand'"), encoding="utf-8")
    (tmp_path / "mosquitto_pub").write_text(f"-h 127.0.0.1\n-p {wary.broker.port}\n", encoding="utf-8")
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "KEY": str(alice.file)}
    start = len(client.seen)
    subprocess.run(["bash", "-ec", shown.replace("~/.ssh/id_ed25519", '"$KEY"')], env=environ, cwd=tmp_path, check=True)
    client.wait_topic("faas/response/admin/upload/greet", start, status="ok")
    assert client.call("greet") == "by hand"
