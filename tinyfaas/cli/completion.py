"""Prints what completes commands, flags and files in bash, zsh and fish; made from the grammar, so it knows all."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tinyfaas.cli import arguments
from tinyfaas.exits import Exit


@dataclass(frozen=True)
class Flag:
    """A flag by all its names; `takes` says of what kind its value is: nothing, a file, or anything."""

    names: tuple[str, ...]
    text: str
    takes: str


@dataclass(frozen=True)
class Command:
    """A command: its flags, the words that may stand there, and whether files may."""

    name: str
    text: str
    flags: tuple[Flag, ...]
    words: tuple[str, ...]
    files: bool


def run(args: argparse.Namespace) -> int:
    """Print the script of one shell."""
    print(_SHELLS[args.shell](commands()))
    return Exit.OK


def commands() -> list[Command]:
    """All commands as the grammar has them."""
    (choices,) = (action for action in arguments.parser()._actions if isinstance(action, argparse._SubParsersAction))
    texts = {action.dest: action.help or "" for action in choices._choices_actions}
    return [_command(name, texts[name], parser) for name, parser in choices.choices.items()]


def _command(name: str, text: str, parser: argparse.ArgumentParser) -> Command:
    flags = [action for action in parser._actions if action.option_strings and action.help != argparse.SUPPRESS]
    words = [action for action in parser._actions if not action.option_strings]
    return Command(
        name,
        text,
        tuple(Flag(tuple(each.option_strings), _plain(each.help), _takes(each)) for each in flags),
        tuple(str(choice) for each in words for choice in each.choices or ()),
        any(each.type is Path for each in words),
    )


def _takes(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    return "file" if action.type is Path or action.metavar in ("FILE", "KEY") else "word"


def _plain(text: str | None) -> str:
    """A help text as one can quote it in any shell."""
    return (text or "").partition(" (default")[0].partition(";")[0].replace("'", "\u2019").replace("`", "")


def _bash(found: list[Command]) -> str:
    cases = "\n".join(
        f"    {each.name}) flags='{' '.join(name for flag in each.flags for name in flag.names)}'"
        f" words='{' '.join(each.words)}' files={'yes' if each.files else ''} ;;"
        for each in found
    )
    valued = sorted({name for each in found for flag in each.flags if flag.takes == "word" for name in flag.names})
    filed = sorted({name for each in found for flag in each.flags if flag.takes == "file" for name in flag.names})
    return f"""\
# tinyfaas completion bash; source it in ~/.bashrc: source <(tinyfaas completion bash)
_tinyfaas() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}} command= flags= words= files= each
  for each in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    [[ $each == -* ]] || {{ command=$each; break; }}
  done
  case $command in
    '') COMPREPLY=($(compgen -W '{" ".join(each.name for each in found)} --help --version' -- "$word")); return ;;
{cases}
  esac
  case $before in
    {"|".join(filed)}) COMPREPLY=($(compgen -f -- "$word")); return ;;
    {"|".join(valued)}) COMPREPLY=(); return ;;
  esac
  if [[ $word == -* ]]; then
    COMPREPLY=($(compgen -W "$flags" -- "$word"))
  else
    COMPREPLY=($(compgen -W "$words" -- "$word"))
    [[ -z $files ]] || COMPREPLY+=($(compgen -f -- "$word"))
  fi
}}
complete -o filenames -F _tinyfaas tinyfaas"""


def _zsh(found: list[Command]) -> str:
    described = "\n".join(f"    '{each.name}:{_plain(each.text)}'" for each in found)
    cases = "\n".join(f"    {each.name}) _arguments -s {' '.join(_zsh_words(each))} ;;" for each in found)
    return f"""\
#compdef tinyfaas
# tinyfaas completion zsh; in ~/.zshrc, after compinit: source <(tinyfaas completion zsh)
_tinyfaas() {{
  local -a commands
  commands=(
{described}
  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  local command=$words[2]
  shift words
  (( CURRENT-- ))
  case $command in
{cases}
  esac
}}
compdef _tinyfaas tinyfaas"""


def _zsh_words(command: Command) -> Iterator[str]:
    kinds = {"": "", "file": ":file:_files", "word": ":value: "}
    for flag in command.flags:
        text = flag.text.replace("[", "(").replace("]", ")").replace(":", " ")
        for name in flag.names:
            yield f"'{name}[{text}]{kinds[flag.takes]}'"
    if command.words:
        yield f"'*:word:({' '.join(command.words)})'"
    elif command.files:
        yield "'*:file:_files'"


def _fish(found: list[Command]) -> str:
    lines = ["# tinyfaas completion fish; in ~/.config/fish/config.fish: tinyfaas completion fish | source"]
    lines += ["complete -c tinyfaas -f"]
    lines += [
        f"complete -c tinyfaas -n __fish_use_subcommand -a {each.name} -d '{_plain(each.text)}'" for each in found
    ]
    for each in found:
        here = f"complete -c tinyfaas -n '__fish_seen_subcommand_from {each.name}'"
        if each.files:
            lines.append(f"{here} -F")
        if each.words:
            lines.append(f"{here} -a '{' '.join(each.words)}'")
        for flag in each.flags:
            names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in flag.names)
            takes = {"": "", "file": " -r -F", "word": " -x"}[flag.takes]
            lines.append(f"{here} {names}{takes} -d '{flag.text}'")
    return "\n".join(lines)


_SHELLS: dict[str, Callable[[list[Command]], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
