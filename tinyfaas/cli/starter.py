"""Makes a new function: a folder that can be deployed, called and tested as it is."""

from __future__ import annotations

import argparse

from tinyfaas.cli import folder, show
from tinyfaas.cli.answers import print_json
from tinyfaas.cli.failures import Failed, Unusable
from tinyfaas.exits import Exit

_CODE = '''\
"""{name}: says hello. Change it to what you need; `tinyfaas test {shown}` runs it here as the server would."""


def main(who="world"):
    """Called with a request's args and kwargs; what it returns is the answer, and must be JSON."""
    print(f"greeting {{who}}")  # goes to the server's log, not into the answer
    return {{"message": f"Hello, {{who}}!"}}
'''

_SETTINGS = """\
# Settings of this function, see docs/functions.md. What is not set has the server's default.
# What it needs to have installed goes into a requirements.txt beside this file.

timeout_s = 10 # a call that runs longer is killed
memory_mb = 64 # so is one that uses more
# concurrency = 1 # calls that may run at once

# [env]
# UNITS = "metric"
"""

_EXAMPLE = """\
{"args": ["garden"], "result": {"message": "Hello, garden!"}}
"""

_TEST = '''\
"""Run by `python3 -m unittest` in this folder, or by pytest: main() without any server."""

import unittest

from func import main


class MainTest(unittest.TestCase):
    def test_it_answers_without_arguments(self):
        self.assertEqual(main(), {"message": "Hello, world!"})

    def test_it_greets_who_is_named(self):
        self.assertEqual(main("garden"), {"message": "Hello, garden!"})


if __name__ == "__main__":
    unittest.main()
'''


def run(args: argparse.Namespace) -> int:
    """Make the folder with what belongs in it; never into one that holds something."""
    name, home = folder.name_of(args.folder), args.folder
    files = {
        "func.py": _CODE.format(name=name, shown=home),
        "function.toml": _SETTINGS,
        "example.json": _EXAMPLE,
        "test_func.py": _TEST,
    }
    try:
        home.mkdir(parents=True, exist_ok=True)
        if any(home.iterdir()):
            raise Unusable(f"{home}: is there already, and not empty; choose another name")
        for file, text in files.items():
            (home / file).write_text(text, encoding="utf-8")
    except FileExistsError:
        raise Unusable(f"{home}: is a file; choose another name") from None
    except OSError as error:
        raise Failed(f"{error.filename}: {error.strerror}") from None
    if args.json:
        print_json({"function": name, "folder": str(home), "files": list(files)})
        return Exit.OK
    print(show.table([(str(home / file), what) for file, what in _WHAT.items()]))
    print(f"\nnext: tinyfaas test {home}\n      tinyfaas deploy {home} --wait\n      tinyfaas invoke {name} garden")
    return Exit.OK


_WHAT = {
    "func.py": "its code, with main()",
    "function.toml": "its settings",
    "example.json": "a call that shows that it works",
    "test_func.py": "its test: python3 -m unittest",
}
