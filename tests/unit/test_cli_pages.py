"""What docs/cli.md and the shells' completions say is what the grammar knows."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from scripts import docs
from tinyfaas.cli.arguments import SHELLS, parse
from tinyfaas.cli.commands import COMMANDS, run
from tinyfaas.cli.completion import commands

PAGE = docs.ROOT / "docs/cli.md"
_LINE = re.compile(r"\b(tinyfaas [^#|)>\n]+)")


def examples() -> list[str]:
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [line.strip() for block in blocks for line in _LINE.findall(block)]


@pytest.mark.parametrize("line", examples())
def test_each_example_is_understood(line: str) -> None:
    _, *argv = shlex.split(line.replace("…", "host.example"))
    assert parse(argv).command == argv[0]


def test_there_are_examples() -> None:
    assert len(examples()) > 10


def test_each_command_has_its_home_and_its_section() -> None:
    names = [command.name for command in commands()]
    assert sorted(names) == sorted(COMMANDS)
    text = docs.commands(docs.ROOT)
    assert re.findall(r"^### tinyfaas (\S+)$", text, re.MULTILINE) == names
    for command in commands():
        for flag in command.flags:
            assert f"| `{', '.join(flag.names)}" in text or "--help" in flag.names


def completed(script: Path, *words: str) -> list[str]:
    """What bash offers for the last of these words."""
    line = " ".join(shlex.quote(word) for word in words)
    program = f"source {script}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _tinyfaas; echo ${{COMPREPLY[@]}}"
    ended = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True, cwd=script.parent)
    assert ended.stderr == ""
    return ended.stdout.split()


def test_bash_completes_commands_flags_words_and_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", "bash"]) == 0
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out, encoding="utf-8")
    assert completed(script, "tinyfaas", "de") == ["dev", "deploy", "delete"]
    assert completed(script, "tinyfaas", "deploy", "--fo") == ["--force"]
    assert completed(script, "tinyfaas", "completion", "") == list(SHELLS)
    assert completed(script, "tinyfaas", "restore", "scr") == ["script"]
    assert completed(script, "tinyfaas", "list", "--port", "") == []
    assert completed(script, "tinyfaas", "info", "") == []


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_can_read_its_script(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    assert run(["completion", shell]) == 0
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out, encoding="utf-8")
    subprocess.run([shell, "-n", str(script)], check=True)
