"""Keeps the documentation true: writes the parts of it that are generated, and checks what it points at.

    scripts/docs.py           writes the generated parts anew
    scripts/docs.py --check   changes nothing: a line for each part that is out of date; exit status 1 for any

Both say which links, tests and files the pages name that are not there. A generated part stands between the comments
`<!-- generated: NAME -->` and `<!-- end -->`; the names are those of `PARTS`.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts import schema
from scripts.contract import document
from tinyfaas import config, errors, events, exits, settings
from tinyfaas.cli import arguments
from tinyfaas.cli.doctor.checks import CHECKS as DOCTORS_CHECKS
from tinyfaas.fields import allowed, fields_of, is_list, table_of, type_of

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("*.md", "data/*.md", "deploy/**/*.md", "docs/*.md", "functions/**/*.md")
INVARIANTS = Path("docs/architecture.md")

_PART = re.compile(r"(?<=<!-- generated: )([\w-]+)( -->\n)(.*?)(?=<!-- end -->)", re.DOTALL)
_FENCE = re.compile(r"^(`{3,}).*?^\1`*$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_NAMED = re.compile(r"`((?:tests|scripts)/[\w/]+\.py)(?:::(\w+))?`")
_INVARIANT = re.compile(r"^\d+\. \*\*(.+?)\*\*", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, order=True)
class Finding:
    """Something on a page that is not true."""

    path: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


# --- what is generated -------------------------------------------------------------------------------------------


def settings_of_server(_root: Path) -> str:
    """Every setting of the server, a table for each section of the file."""
    sections: dict[str, list[tuple[str, ...]]] = {}
    for key, variable, may_be, default, doc, reloaded in config.described():
        section, _, name = key.rpartition(".")
        named, taken_over = f"`{name}`<br>`{variable}`", "yes" if reloaded else "restart"
        sections.setdefault(section, []).append((named, _code(default), _may_be(may_be), taken_over, doc))
    head = ("setting, variable", "default", "may be", "reload", "")
    return "\n".join(
        f"### {f'`[{section}]`' if section else 'At the top'}\n\n{_about(section)}\n\n{_table(head, rows)}"
        for section, rows in sections.items()
    )


def settings_of_function(_root: Path) -> str:
    """Every setting that a function may have of its own."""
    rows: list[tuple[str, ...]] = []
    for kind in settings.PLAIN:
        rows += _rows("", kind)
    for name, kind in settings.TABLES.items():
        rows += _rows(f"{name}.", kind)
    return _table(("setting", "default", "may be", ""), rows)


def _rows(prefix: str, kind: type[Any]) -> Iterator[tuple[str, ...]]:
    """A row for each setting of a table, and for those of the tables in it."""
    for name, field in fields_of(kind).items():
        of_kind = type_of(kind, name)
        of = table_of(of_kind)
        value = () if field.default in (dataclasses.MISSING, None) else field.default
        default = ", ".join(value) if isinstance(value, tuple) else str(value)
        shown = "required" if field.metadata["required"] else _code(default)
        if of is not None and not is_list(of_kind):
            shown = "none"
        yield (f"`{prefix}{name}`", shown, _may_be(allowed(of_kind, field)), field.metadata["doc"])
        if of is not None:
            yield from _rows(f"{prefix}{name}{'[]' if is_list(of_kind) else ''}.", of)


def error_codes(_root: Path) -> str:
    """Every `code` of an error answer; its meaning is the docstring of its exception."""
    kinds = errors.Failure.__subclasses__()
    return _table(("`code`", "what happened"), ((f"`{kind.code}`", _line(kind.__doc__)) for kind in kinds))


def doctor_checks(_root: Path) -> str:
    """Every check of `tinyfaas doctor`; what is well is the docstring of its function."""
    return _table(("check", "well when"), ((f"`{check.name}`", _line(check.look.__doc__)) for check in DOCTORS_CHECKS))


def log_events(_root: Path) -> str:
    """Every event of the log, with its sentence, and whether the catalogue of messages explains it."""
    rows: dict[str, list[events.Event]] = {}
    for event in events.EVENTS:
        rows.setdefault(event.name, []).append(event)
    shown = (
        (f"`{name}`", "<br>".join(f"{each.text}" for each in texts), "yes" if any(e.message_id for e in texts) else "")
        for name, texts in rows.items()
    )
    return _table(("event", "what it says", "explained"), shown)


def log_rooms(_root: Path) -> str:
    """The names that `log.levels` knows."""
    return f"{', '.join(f'`{room}`' for room in events.ROOMS)}.\n"


def exit_statuses(_root: Path) -> str:
    """Every exit status; its meaning is the text that follows it in the source."""
    (listing,) = (node for node in ast.parse(_source(exits)).body if isinstance(node, ast.ClassDef))
    rows = []
    for item, text in zip(listing.body, listing.body[1:], strict=False):
        match item, text:
            case (
                ast.Assign(targets=[ast.Name(id=name)]),
                ast.Expr(value=ast.Constant(value=str(meaning))),
            ):
                rows.append((str(int(exits.Exit[name])), _line(meaning)))
    return _table(("status", "meaning"), rows)


def command_list(_root: Path) -> str:
    """Every command of the command line, in one line each."""
    rows = ((f"[`{name}`](#tinyfaas-{name})", text) for name, text, _ in _commands())
    return _table(("command", "what it does"), rows)


def commands(_root: Path) -> str:
    """Every command with its arguments and flags."""
    return "\n".join(_command(name, text, parser) for name, text, parser in _commands())


def _commands() -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    (choices,) = (each for each in arguments.parser()._actions if isinstance(each, argparse._SubParsersAction))
    texts = {action.dest: action.help or "" for action in choices._choices_actions}
    yield from ((name, texts[name], parser) for name, parser in choices.choices.items())


def _command(name: str, text: str, parser: argparse.ArgumentParser) -> str:
    shown = [action for action in parser._actions if action.dest != "help"]
    words = [_word(action) for action in shown if not action.option_strings]
    flags = ["[FLAG …]"] if len(words) < len(shown) else []
    usage = " ".join(("tinyfaas", name, *words, *flags))
    rows = ((_code(_with_value(action)), _line((action.help or "") % vars(action))) for action in shown)
    table = _table(("argument, flag", ""), rows) if shown else ""
    return f"### tinyfaas {name}\n\n{text[0].upper()}{text[1:]}.\n\n```text\n{usage}\n```\n\n{table}"


def _word(action: argparse.Action) -> str:
    """An argument as it stands on the command line: `[ARG …]`."""
    name = str(action.metavar or "|".join(map(str, action.choices or (action.dest,))))
    return {"*": f"[{name} …]", "?": f"[{name}]"}.get(str(action.nargs), name)


def _with_value(action: argparse.Action) -> str:
    """A flag by all its names, with what it takes: `-f, --follow`, `--host HOST`."""
    if not action.option_strings:
        return _word(action).strip("[] …")
    takes = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
    return ", ".join(action.option_strings) + takes


def invariants(root: Path) -> str:
    """The invariants, each in the one sentence that stands in bold in docs/architecture.md."""
    text = (root / INVARIANTS).read_text(encoding="utf-8")
    return "".join(f"{number}. {_line(found)}\n" for number, found in enumerate(_INVARIANT.findall(text), start=1))


PARTS: dict[str, Callable[[Path], str]] = {
    "command-list": command_list,
    "commands": commands,
    "doctor-checks": doctor_checks,
    "error-codes": error_codes,
    "exit-statuses": exit_statuses,
    "function-settings": settings_of_function,
    "invariants": invariants,
    "log-events": log_events,
    "log-rooms": log_rooms,
    "server-settings": settings_of_server,
}

FILES: dict[Path, Callable[[], str]] = {
    Path("docs/asyncapi.yaml"): document.asyncapi,
    Path("docs/function.schema.json"): schema.function_schema,
}


def _about(section: str) -> str:
    return _line(config.SECTIONS[section].__doc__) if section else "What stands above the first section."


def _may_be(words: str) -> str:
    """What a setting may be; a pattern or a choice in it is shown as code."""
    words = re.sub(r'("[^"]*")', r"`\1`", words)
    words = re.sub(r"(?<=matching )(.+)", lambda found: _code(found[1]), words)
    return re.sub(r"\b(\d+)\.0\b", r"\1", words)


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def _code(text: str) -> str:
    text = re.sub(r"^(\d+)\.0$", r"\1", text).replace("|", "\\|")
    return f"`{text}`" if text else "empty"


def _line(text: str | None) -> str:
    return " ".join((text or "").split())


def _source(module: object) -> str:
    return Path(str(vars(module)["__file__"])).read_text(encoding="utf-8")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(cells)} |\n".replace("|  |", "| |") for cells in (head, *rows)]
    return "".join((lines[0], "|---" * len(head), "|\n", *lines[1:]))


# --- what is checked ---------------------------------------------------------------------------------------------


def pages(root: Path) -> Iterator[Path]:
    """Every page of a checkout, from its root."""
    for pattern in PAGES:
        yield from (page.relative_to(root) for page in sorted(root.glob(pattern)))


def write(root: Path) -> Iterator[Path]:
    """Write every generated part anew; returns the pages that have changed."""
    for page in pages(root):
        text = (root / page).read_text(encoding="utf-8")
        renewed = _PART.sub(lambda part: part[1] + part[2] + _generated(root, part), text)
        if renewed != text:
            (root / page).write_text(renewed, encoding="utf-8")
            yield page
    for file, generated in FILES.items():
        if (root / file).is_file() and _text(root / file) != generated():
            (root / file).write_text(generated(), encoding="utf-8")
            yield file


def stale_parts(root: Path) -> Iterator[Finding]:
    """Generated parts that are not as they would be written now."""
    for page in pages(root):
        text = (root / page).read_text(encoding="utf-8")
        for part in _PART.finditer(text):
            name = part[1]
            if name not in PARTS:
                yield _at(page, text, part.start(), f"nothing generates {name}; there are: {', '.join(PARTS)}")
            elif part[3] != _generated(root, part):
                yield _at(page, text, part.start(), f"{name} is out of date: run scripts/docs.py")
    for file, generated in FILES.items():
        if (root / file).is_file() and _text(root / file) != generated():
            yield Finding(file, 1, "is out of date: run scripts/docs.py")


def broken_links(root: Path) -> Iterator[Finding]:
    """Links into the checkout that lead nowhere: to no file, or to no heading in it."""
    for page in pages(root):
        text = _without_code(root / page)
        for found in _LINK.finditer(text):
            target, _, anchor = found[1].partition("#")
            if ":" in target:
                continue  # the world outside
            file = (root / page.parent / target).resolve() if target else root / page
            if not file.exists():
                yield _at(page, text, found.start(), f"links to {target}, which is not there")
            elif anchor and anchor not in _anchors(file):
                yield _at(page, text, found.start(), f"links to #{anchor}, a heading that {file.name} does not have")


def missing_tests(root: Path) -> Iterator[Finding]:
    """Tests and checks that a page names by file, or by `file::function`, and that are not there."""
    for page in pages(root):
        text = (root / page).read_text(encoding="utf-8")
        for found in _NAMED.finditer(text):
            file, name = root / found[1], found[2]
            if not file.is_file():
                yield _at(page, text, found.start(), f"names {found[1]}, which is not there")
            elif name and name not in _functions(file):
                yield _at(page, text, found.start(), f"names {name}, which {found[1]} does not define")


def untested_invariants(root: Path) -> Iterator[Finding]:
    """Invariants that name no test or check."""
    page = root / INVARIANTS
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    starts = [found.start() for found in _INVARIANT.finditer(text)]
    for start in starts:
        rest = text[start:]
        if not _NAMED.search(re.split(r"\n(?=\d+\. \*\*|#)", rest, maxsplit=1)[0]):
            yield _at(INVARIANTS, text, start, "an invariant that names no test")


CHECKS: tuple[Callable[[Path], Iterator[Finding]], ...] = (
    stale_parts,
    broken_links,
    missing_tests,
    untested_invariants,
)


def _generated(root: Path, part: re.Match[str]) -> str:
    """What a part should say; one that nobody generates stays as it is."""
    return f"\n{PARTS[part[1]](root)}\n" if part[1] in PARTS else part[3]


def inspect(root: Path) -> list[Finding]:
    """All that is not true, in the order of pages and lines."""
    return sorted(finding for check in CHECKS for finding in check(root))


def _at(page: Path, text: str, position: int, what: str) -> Finding:
    return Finding(page, text.count("\n", 0, position) + 1, what)


def _without_code(page: Path) -> str:
    """A page without its examples, on the same lines."""
    return _FENCE.sub(lambda found: "\n" * found[0].count("\n"), page.read_text(encoding="utf-8"))


def _anchors(page: Path) -> set[str]:
    """The headings of a page, as links name them."""
    headings = re.findall(r"^#+ (.+)$", _without_code(page), re.MULTILINE) if page.suffix == ".md" else []
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _functions(file: Path) -> set[str]:
    functions = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    return {node.name for node in functions if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def main(arguments: list[str]) -> int:
    """Write unless told only to check; then say what is not true."""
    if arguments not in ([], ["--check"]):
        print("usage: scripts/docs.py [--check]", file=sys.stderr)
        return 2
    if not arguments:
        for page in write(ROOT):
            print(f"{page}: written")
    findings = inspect(ROOT)
    print(*findings, sep="\n", end="\n" if findings else "")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
