"""Functions come from a folder beside the inventory: what changed is uploaded, and an example proves that it works."""

from __future__ import annotations

import json

from tests.hosts.appliance import Appliance
from tests.hosts.control import Control, Played
from tests.hosts.host import Host


def deployed(host: Host, function: str) -> int:
    """The current version of a function."""
    return int(json.loads(Appliance(host).cli("info", function, "--json"))["version"])


def test_functions_are_deployed_where_they_changed_and_checked_by_their_examples(grown: Control) -> None:
    host = grown.hosts[0]
    folder = grown.folder / "functions/double"
    folder.mkdir(parents=True)
    (folder / "func.py").write_text("def main(x, times=2): return x * times\n", encoding="utf-8")
    (folder / "function.toml").write_text("timeout_s = 5\n", encoding="utf-8")
    (folder / "example.json").write_text(
        '{"args": ["-a"], "kwargs": {"times": 3}, "result": "-a-a-a"}', encoding="utf-8"
    )

    def play(*, check: bool = True) -> Played:
        return grown.play("functions.yml", "--limit", host.name, check=check)

    play()
    hello = deployed(host, "hello")
    assert deployed(host, "double") == 1
    (folder / "func.py").write_text("def main(x, times=2): return x * times * 1\n", encoding="utf-8")
    play()
    assert (deployed(host, "double"), deployed(host, "hello")) == (2, hello)
    (folder / "func.py").write_text("def main(x, times=2): return x\n", encoding="utf-8")
    failed = play(check=False)
    assert failed.status != 0
    assert "Call each function as its example says" in failed.output
    grown.own[host.name]["functions_absent"] = ["double"]
    (folder / "func.py").unlink()
    play()
    assert "double" not in Appliance(host).cli("list")
