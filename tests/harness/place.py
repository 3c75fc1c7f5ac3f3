"""A server with or without a sandbox around its workers, a good function on it, and what belongs to others there."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.harness.bench import Bench
from tests.harness.beside import GOOD
from tests.harness.broker import ACCOUNT, Broker
from tests.harness.client import Client
from tests.harness.server import Server

_GOOD = "good"
_PASSWORD = "correct-horse"


@dataclass(frozen=True)
class Place:
    """`client` asks; `beside` is another one, for a good function called meanwhile; `etc` is the server's folder."""

    boxed: bool
    broker: Broker
    server: Server
    client: Client
    beside: Client
    etc: Path
    secrets: Path
    good: str = _GOOD

    @property
    def others(self) -> list[Path]:
        """Files that are no function's business, least of all another's."""
        home = self.server.functions_dir / self.good
        return [
            self.etc / "tinyfaas.toml", self.etc / "password", self.secrets / "SPARE",
            self.server.data_dir / "functions.json", home / "versions" / "1" / "func.py", home / "state" / "kept",
        ]  # fmt: skip

    def facts(self) -> dict[str, Any]:
        """What an attacker could find out about this place."""
        return {
            "server": self.server.pid,
            "data": str(self.server.data_dir),
            "functions": str(self.server.functions_dir),
            "good": str(self.server.functions_dir / self.good),
            "others": [str(path) for path in self.others],
            "passwords": str(self.broker.password_file),
            "port": self.broker.port,
            "account": ACCOUNT,
            "clients": [f"tinyfaas-{self.server.node}", f"tinyfaas-{self.server.node}-admin"],
        }

    def belongings(self) -> dict[str, str]:
        """What others own, with a digest of each: to be the same before and after."""
        roots = (self.etc, self.secrets, self.server.functions_dir / self.good / "versions",
                 self.server.functions_dir / self.good / "state", self.broker.password_file)  # fmt: skip
        files = [path for root in roots for path in (root, *root.rglob("*")) if path.is_file()]
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def open_place(bench: Bench, *, boxed: bool) -> Place:
    """Start it. Without a sandbox it is a device that has no bubblewrap."""
    broker = bench.broker(password=_PASSWORD)
    etc, secrets = bench.grounds.new_folder("etc"), bench.grounds.new_folder("secrets")
    for path, text in (
        (etc / "password", _PASSWORD),
        (etc / "tinyfaas.toml", f'[mqtt]\nusername = "{ACCOUNT}"\npassword_file = "{etc / "password"}"\n'),
        (secrets / "SPARE", "nobody-asked-for-it\n"),
    ):
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)
        bench.grounds.account.own(path)
    settings = {"workers": 3, "sandbox_mode": "required" if boxed else "auto", "sandbox_secrets_dir": secrets}
    server = bench.server(broker, settings)
    server.environ = {"TINYFAAS_CONFIG": str(etc / "tinyfaas.toml"), **({} if boxed else {"PATH": "/nowhere"})}
    server.start()
    client = bench.client(broker)
    client.deploy(_GOOD, GOOD, config={"concurrency": 1})
    kept = server.functions_dir / _GOOD / "state" / "kept"
    kept.write_text("mine\n", encoding="utf-8")
    bench.grounds.account.own(kept)
    beside = bench.client(broker, topics=(f"faas/response/invoke/{_GOOD}",))
    return Place(boxed, broker, server, client, beside, etc, secrets)
