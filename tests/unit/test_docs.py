"""What scripts/docs.py generates and checks, each on a small checkout."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import docs
from tinyfaas import config, errors, exits
from tinyfaas.fields import fields_of
from tinyfaas.model import Limits


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    return tmp_path


def findings(root: Path) -> list[str]:
    return [str(finding) for finding in docs.inspect(root)]


def test_a_part_is_written_between_its_comments_and_nowhere_else(checkout: Path) -> None:
    page = checkout / "docs/protocol.md"
    page.write_text("before\n<!-- generated: error-codes -->\nstale words\n<!-- end -->\nafter\n", encoding="utf-8")
    assert list(docs.write(checkout)) == [Path("docs/protocol.md")]
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- generated: error-codes -->\n\n| `code` | what happened |\n")
    assert "| `timeout` | It ran longer than its limit and was killed. |\n" in text
    assert text.endswith("|\n\n<!-- end -->\nafter\n")
    assert "stale words" not in text


def test_a_part_that_is_out_of_date_is_found_until_it_is_written(checkout: Path) -> None:
    (checkout / "README.md").write_text("# t\n\n<!-- generated: exit-statuses -->\n<!-- end -->\n", encoding="utf-8")
    assert findings(checkout) == ["README.md:3: exit-statuses is out of date: run scripts/docs.py"]
    list(docs.write(checkout))
    assert findings(checkout) == []
    assert list(docs.write(checkout)) == []


def test_a_part_that_nobody_generates_is_found_and_left_alone(checkout: Path) -> None:
    (checkout / "README.md").write_text("<!-- generated: poems -->\nmine\n<!-- end -->\n", encoding="utf-8")
    assert list(docs.write(checkout)) == []
    (finding,) = findings(checkout)
    assert finding.startswith("README.md:1: nothing generates poems")


def test_every_setting_of_the_server_is_described() -> None:
    text = docs.settings_of_server(docs.ROOT)
    for key, variable, *_ in config.described():
        assert f"`{key.rpartition('.')[2]}`<br>`{variable}`" in text


def test_every_setting_of_a_function_is_described() -> None:
    text = docs.settings_of_function(docs.ROOT)
    for name in (*fields_of(Limits), "retry.attempts"):
        assert f"| `{name}` |" in text


def test_every_exit_status_and_every_error_code_has_a_meaning() -> None:
    statuses, codes = docs.exit_statuses(docs.ROOT), docs.error_codes(docs.ROOT)
    for status in exits.Exit:
        assert f"\n| {int(status)} | " in statuses
    for kind in errors.Failure.__subclasses__():
        assert f"\n| `{kind.code}` | " in codes


def test_the_configuration_that_is_shown_can_be_used(tmp_path: Path) -> None:
    page = (docs.ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    shown, _profiles = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    password, file = tmp_path / "password", tmp_path / "tinyfaas.toml"
    password.write_text("secret\n", encoding="utf-8")
    file.write_text(shown.replace("/etc/tinyfaas/password", str(password)), encoding="utf-8")
    used = config.load(file, {})
    assert (used.node.name, used.mqtt.password, used.limits.timeout_s) == ("pi-01", "secret", 10.0)


def test_invariants_are_told_by_their_sentence_in_bold(checkout: Path) -> None:
    (checkout / docs.INVARIANTS).write_text(
        "1. **Nothing\n   bends.** And more.\n2. **Nor\tthis.**\n", encoding="utf-8"
    )
    assert docs.invariants(checkout) == "1. Nothing bends.\n2. Nor this.\n"


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ("docs/gone.md", "links to docs/gone.md, which is not there"),
        ("docs/here.md#gone", "links to #gone, a heading that here.md does not have"),
        ("#gone", "links to #gone, a heading that README.md does not have"),
    ],
)
def test_a_link_that_leads_nowhere_is_found(checkout: Path, link: str, said: str) -> None:
    (checkout / "docs/here.md").write_text("# Here\n", encoding="utf-8")
    (checkout / "README.md").write_text(f"# Read me\n\n[there]({link})\n", encoding="utf-8")
    assert findings(checkout) == [f"README.md:3: {said}"]


@pytest.mark.parametrize(
    "link", ["docs/here.md", "docs/here.md#at-a-time-dont-wait", "docs/", "#read-me", "https://example.org/gone"]
)
def test_a_link_that_leads_somewhere_is_fine(checkout: Path, link: str) -> None:
    (checkout / "docs/here.md").write_text("# Here\n\n## At a time: don't wait\n", encoding="utf-8")
    (checkout / "README.md").write_text(f"# Read me\n\n[there]({link})\n", encoding="utf-8")
    assert findings(checkout) == []


def test_examples_have_neither_links_nor_headings(checkout: Path) -> None:
    text = "# Read me\n\n```sh\n# A comment\necho '[there](gone)'\n```\n\n[comment](#a-comment)\n"
    (checkout / "README.md").write_text(text, encoding="utf-8")
    assert findings(checkout) == ["README.md:8: links to #a-comment, a heading that README.md does not have"]


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("tests/unit/test_gone.py", "names tests/unit/test_gone.py, which is not there"),
        ("tests/unit/test_here.py::test_gone", "names test_gone, which tests/unit/test_here.py does not define"),
    ],
)
def test_a_test_that_is_named_and_not_there_is_found(checkout: Path, named: str, said: str) -> None:
    (checkout / "tests/unit").mkdir(parents=True)
    (checkout / "tests/unit/test_here.py").write_text("def test_here() -> None: ...\n", encoding="utf-8")
    (checkout / "README.md").write_text(f"See `{named}` and `tests/unit/test_here.py::test_here`.\n", encoding="utf-8")
    assert findings(checkout) == [f"README.md:1: {said}"]


def test_an_invariant_without_a_test_is_found(checkout: Path) -> None:
    (checkout / "scripts").mkdir()
    (checkout / "scripts/house.py").write_text("def rule() -> None: ...\n", encoding="utf-8")
    (checkout / docs.INVARIANTS).write_text(
        "# Page\n\n1. **Held.** By `scripts/house.py::rule`.\n2. **Not held.**\n\n## Next: `scripts/house.py`\n",
        encoding="utf-8",
    )
    assert findings(checkout) == ["docs/architecture.md:4: an invariant that names no test"]


def test_the_command_knows_one_flag() -> None:
    command = [sys.executable, "scripts/docs.py", "--chekc"]
    done = subprocess.run(command, cwd=docs.ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: ")
