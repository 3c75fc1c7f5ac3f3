"""Checks the rules of the house (docs/architecture.md): a line for each breach; exit status 1 for any.

A room is a file `tinyfaas/<room>.py` or a package `tinyfaas/<room>/`, and stands on a floor.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

# A room imports from the floors below its own, and on its own floor from those to its left.
FLOORS = (
    ("errors", "exits", "topics", "fields", "model", "protocol", "events", "allowance", "child"),
    ("config", "reload", "timetable", "settings", "files", "heap", "journal", "log", "pulse", "systemd"),
    (
        "registry",
        "history",
        "deadletters",
        "retained",
        "lastruns",
        "vitals",
        "fairqueue",
        "inlet",
        "triggers",
        "windows",
        "loops",
        "eventbody",
        "tap",
        "output",
        "processes",
        "seccomp",
        "sandbox",
        "family",
        "forkserver",
        "cgroups",
        "credentials",
        "cell",
        "signing",
        "elf",
        "installer",
        "build",
        "environments",
        "context",
        "worker",
    ),
    ("publisher", "pool", "warmth", "watch", "delivery", "recorder", "effects", "deploy"),
    ("feed", "intake", "conclusion", "dispatch", "schedules", "admin"),
    ("gateway",),
    ("status", "daemon"),
    ("cli", "__main__"),
)
OWNERS = {
    "logging": ("log",),
    "paho": ("cli", "gateway"),
    "psutil": ("vitals",),
    "sdnotify": ("systemd",),
    "structlog": ("log",),
}
CODE_MAP = Path("docs/architecture.md")

FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# From the ground up, after the package's own file, which all may import.
ORDER = {room: place for place, room in enumerate(("__init__", *FLOOR_OF))}


@dataclass(frozen=True, order=True)
class Finding:
    """One breach of a rule."""

    path: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


@dataclass(frozen=True)
class Module:
    """One file, by its path from the checkout's root."""

    path: Path
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """What it says, parsed."""
        return ast.parse(self.text, self.path)

    @property
    def inside(self) -> Path:
        """Its path from `tinyfaas/`."""
        return Path(*self.path.parts[1:])

    @property
    def room(self) -> str:
        """The room it is, or is a part of."""
        return self.inside.parts[0].removesuffix(".py")

    @property
    def name(self) -> str:
        """The name it is imported by."""
        return ".".join(self.path.with_suffix("").parts).removesuffix(".__init__")

    def finding(self, line: int, text: str) -> Finding:
        """A breach at a line of this file."""
        return Finding(self.path, line, text)

    def comment_at(self, node: ast.expr | ast.ExceptHandler) -> bool:
        """Whether a comment stands beside a piece of code."""
        return any("#" in line for line in self.text.splitlines()[node.lineno - 1 : node.end_lineno])

    def imports(self) -> Iterator[tuple[int, str]]:
        """Line and full dotted name of everything it imports, wherever it does."""
        package = self.path.parent.parts
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                origin = package[: len(package) - node.level + 1] if node.level else ()
                names = (*origin, node.module) if node.module else origin
                yield from ((node.lineno, ".".join((*names, alias.name))) for alias in node.names)


class House:
    """All modules of a checkout."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.modules = [
            Module(file.relative_to(root), file.read_text(encoding="utf-8"))
            for file in sorted((root / "tinyfaas").rglob("*.py"))
        ]
        self._by_name = {module.name: module for module in self.modules}

    def imports(self) -> Iterator[tuple[Module, int, str]]:
        """Every import of every module."""
        for module in self.modules:
            yield from ((module, line, name) for line, name in module.imports())

    def find(self, name: str) -> Module | None:
        """The module that a dotted name lies in, if it is one of ours."""
        while name and name not in self._by_name:
            name = name.rpartition(".")[0]
        return self._by_name.get(name)


def imports_go_down(house: House) -> Iterator[Finding]:
    """Every room has its place and imports from places before it."""
    for module in house.modules:
        if module.room not in ORDER:
            yield module.finding(1, f"{module.room} has no place in FLOORS (scripts/house.py)")
    for module, line, name in house.imports():
        other = house.find(name)
        if other and {module.room, other.room} <= ORDER.keys() and ORDER[other.room] > ORDER[module.room]:
            yield module.finding(line, f"imports {other.room}, whose place in FLOORS comes later")


def imports_make_no_circle(house: House) -> Iterator[Finding]:
    """Within a room there is an order too."""
    graph: dict[str, set[str]] = {module.name: set() for module in house.modules}
    for module, _, name in house.imports():
        if other := house.find(name):
            graph[module.name].add(other.name)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = " → ".join(reversed(error.args[1]))
        yield Finding(Path("tinyfaas"), 1, f"imports go in a circle: {circle}")


def foreign_packages_have_owners(house: House) -> Iterator[Finding]:
    """One room knows paho, one psutil …; the others ask that room."""
    for module, line, name in house.imports():
        package = name.partition(".")[0]
        if package in OWNERS and module.room not in OWNERS[package]:
            yield module.finding(line, f"imports {package}, as only {' and '.join(OWNERS[package])} may")


def imports_stand_at_the_top(house: House) -> Iterator[Finding]:
    """What a file needs can be read at its head, and fails at start rather than later."""
    for module in house.modules:
        if module.room == "cli" or module.path.stem == "__main__":
            continue  # a command loads what it needs and no more: starting is slow on a Pi
        lines = {
            node.lineno
            for function in ast.walk(module.tree)
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
            for node in ast.walk(function)
            if isinstance(node, ast.Import | ast.ImportFrom)
        }
        yield from (module.finding(line, "imports inside a function") for line in lines)


def child_stands_alone(house: House) -> Iterator[Finding]:
    """The child runs in a function's environment, where only the standard library is sure to be."""
    folder = {module.path.stem for module in house.modules if module.room == "child"}
    for module, line, name in house.imports():
        package = name.partition(".")[0]
        if module.room == "child" and package not in sys.stdlib_module_names | folder:
            yield module.finding(line, f"imports {package}: a child has only its folder and Python")


def names_say_something(house: House) -> Iterator[Finding]:
    """No file hides one of Python's own, and none is called after nothing in particular."""
    for module in house.modules:
        # The child's folder is on sys.path: a file in it would come before the standard library's.
        shown = module.path.stem if module.room == "child" else module.room
        if shown in sys.stdlib_module_names:
            yield module.finding(1, f"{shown} is the name of a module of the standard library")
        if module.path.stem == "utils":
            yield module.finding(1, "utils says nothing; name it after what it is about")
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef) and node.name.endswith(("Manager", "Helper")):
                yield module.finding(node.lineno, f"{node.name} says nothing; name it after what it does")


def errors_are_not_swallowed(house: House) -> Iterator[Finding]:
    """Who catches everything does something about it, or a comment says why not."""
    for module in house.modules:
        for node in ast.walk(module.tree):
            match node:
                case ast.ExceptHandler(type=None):
                    yield module.finding(node.lineno, "bare except: name what is caught")
                case (
                    ast.ExceptHandler(type=ast.expr() as caught, body=[ast.Pass()])
                    | ast.Call(func=ast.Attribute(attr="suppress") | ast.Name(id="suppress"), args=[caught])
                ) if _is_everything(caught) and not module.comment_at(node):
                    yield module.finding(node.lineno, "swallows every exception, and no comment says why")


def _is_everything(caught: ast.expr) -> bool:
    each = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(isinstance(one, ast.Name) and one.id in ("Exception", "BaseException") for one in each)


def code_map_is_true(house: House) -> Iterator[Finding]:
    """The map shows every file on its floor, and no other."""
    page = house.root / CODE_MAP
    if not page.is_file():
        yield Finding(CODE_MAP, 1, "is missing; rows | floor | `file.py` | … | make the code map")
        return
    drawn = dict(_drawn(page.read_text(encoding="utf-8")))
    standing = {
        module.inside.as_posix(): FLOOR_OF[module.room]
        for module in house.modules
        if module.room in FLOOR_OF and module.path.name != "__init__.py"
    }
    for file, (line, floor) in drawn.items():
        if file not in standing:
            yield Finding(CODE_MAP, line, f"shows {file}, which is not there")
        elif floor != standing[file]:
            yield Finding(CODE_MAP, line, f"shows {file} on floor {floor}; it stands on {standing[file]}")
    for file in standing.keys() - drawn.keys():
        yield Finding(CODE_MAP, 1, f"shows no {file} (floor {standing[file]})")


def _drawn(text: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """Each file on the map with line and floor; a package is written `package/` (`one.py`, `two.py`)."""
    for line, row in enumerate(text.splitlines(), start=1):
        if cells := re.match(r"\|\s*(\d)\s*\|([^|]*)\|", row):
            for name, inner in re.findall(r"`([^`]+)`(?:\s*\(([^)]*)\))?", cells[2]):
                files = re.findall(r"`([^`]+)`", inner) if name.endswith("/") else [""]
                yield from ((name + file, (line, int(cells[1]))) for file in files)


RULES: tuple[Callable[[House], Iterator[Finding]], ...] = (
    imports_go_down,
    imports_make_no_circle,
    foreign_packages_have_owners,
    imports_stand_at_the_top,
    child_stands_alone,
    names_say_something,
    errors_are_not_swallowed,
    code_map_is_true,
)


def inspect(root: Path) -> list[Finding]:
    """Every breach of every rule in a checkout, in the order of files and lines."""
    house = House(root)
    return sorted(finding for rule in RULES for finding in rule(house))


def main() -> int:
    """Inspect the checkout that this file lies in."""
    findings = inspect(Path(__file__).resolve().parent.parent)
    print(*findings, sep="\n", end="\n" if findings else "")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
