"""How pip is called for an upload: with which options and variables, what of this device it reads, and what it means
when it refuses.
"""

from __future__ import annotations

import configparser
import importlib.util
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tinyfaas import elf
from tinyfaas.config import Uploads

# What an installer needs of the server's environment; anything else, a password above all, stays out of it.
_PASSED_ON = re.compile(
    r"PIP_.*|UV_.*|(HTTPS?|NO|ALL)_PROXY|(https?|no|all)_proxy|SSL_CERT_(FILE|DIR)|(REQUESTS|CURL)_CA_BUNDLE"
    r"|XDG_CONFIG_(HOME|DIRS)|HOME|LANG|TZ"
)
_OF_THE_SERVER = ("PIP_LOG", "PIP_CACHE_DIR")  # files that it would write to
_OPTIONS_WITHOUT_CODE = {
    "-f", "-i", "--extra-index-url", "--find-links", "--hash", "--index-url", "--no-index", "--only-binary", "--pre",
    "--prefer-binary", "--require-hashes", "--trusted-host",
}  # fmt: skip
_CODING = re.compile(r"#.*coding[:=]\s*(?!utf-?8)")


def command(python: Path, requirements: Path, settings: Uploads, *, compile_all: bool) -> list[str]:
    """The command that installs requirements into the environment of `python`."""
    options = ["install", "--no-input", "--disable-pip-version-check", "--no-cache-dir"]
    if not compile_all:
        options.append("--no-compile")
    if settings.only_binary:
        options += ["--only-binary", ":all:"]
    if settings.wheel_house:
        options += ["--find-links", settings.wheel_house]
    if settings.no_index:
        options.append("--no-index")
    options += ["--requirement", str(requirements)]
    if importlib.util.find_spec("pip") is not None:  # one pip serves all environments
        return [sys.executable, "-P", "-m", "pip", "--python", str(python), *options]
    script = 'set -e; "$0" -I -m ensurepip >/dev/null; exec "$0" -P -m pip "$@"'
    return ["/bin/sh", "-c", script, str(python), *options]


def variables(environ: Mapping[str, str], scratch: Path) -> dict[str, str]:
    """The environment of a build; what it writes on the way goes to `scratch`."""
    passed_on = {name: value for name, value in environ.items() if _PASSED_ON.fullmatch(name)}
    return {
        "PATH": environ.get("PATH", os.defpath),
        **{name: value for name, value in passed_on.items() if name not in _OF_THE_SERVER},
        "PIP_LOG": "",  # empty overrules the configuration files
        "TMPDIR": str(scratch),
        "XDG_CACHE_HOME": str(scratch),
    }


def reads(environ: Mapping[str, str], settings: Uploads) -> list[Path]:
    """The files and folders of this device that pip needs: itself, its configuration, and what that names."""
    files = [file for file in _configuration_files(environ) if os.path.isfile(file)]  # noqa: PTH113  (never raises)
    named = [value for name, value in environ.items() if _PASSED_ON.fullmatch(name) and name not in ("HOME", "LANG")]
    for file in files:
        named += _values(file)
    found = [Path(sys.prefix), *files, *_paths(named, environ)]
    if settings.wheel_house:
        found.append(Path(settings.wheel_house))
    return list(dict.fromkeys(found))


def builds_code(requirements: bytes) -> str:
    """The first line by which something else than a wheel could be installed though only wheels may; empty if none.

    pip's own `--only-binary` does not hold for what is named by address, and a line can take it back.
    """
    try:
        text = requirements.decode("utf-8")
    except UnicodeDecodeError:
        return "(not UTF-8)"
    for number, line in enumerate(text.splitlines()):
        if number < 2 and (_CODING.match(line) or "\0" in line or line.startswith("\ufeff")):
            return line
        wanted = re.sub(r"(^|\s+)#.*$", "", line).rstrip("\\").strip()
        if not all(token.partition("=")[0] in _OPTIONS_WITHOUT_CODE for token in wanted.split() if token[0] == "-"):
            return line
        if not wanted.startswith("-") and ("/" in wanted or "@" in wanted) and not _is_wheel(wanted):
            return line
    return ""


def refusal(lines: Iterable[str], settings: Uploads) -> str:
    """What went wrong, in one line, from the last lines that pip printed."""
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR:")]
    if not errors:
        return "the environment could not be built: see detail"
    last = errors[-1]
    for error in errors:
        if found := re.fullmatch(r"(\S+\.whl) is not a supported wheel on this platform\.?", error):
            return _does_not_fit(found[1])
    if settings.wheel_house and (found := re.match(r"No matching distribution found for ([\w.-]+)", last)):
        name = _normal(found[1])
        wheels = sorted(path.name for path in Path(settings.wheel_house).glob("*.whl"))
        for wheel in wheels:
            if _normal(wheel.partition("-")[0]) == name and _unfit(wheel):
                return _does_not_fit(wheel)
    return f"the environment could not be built: {last}"


def _does_not_fit(wheel: str) -> str:
    ours = f"this device's Python is {sys.version_info[0]}.{sys.version_info[1]} for {elf.own_name()}"
    python, _, system = _tags(wheel)
    return f"{wheel} can't be installed here: it is for {system} and Python {python}, {ours}"


def _unfit(wheel: str) -> bool:
    """Whether a wheel is for another machine, or for another Python, as its name tells."""
    python, abi, system = _tags(wheel)
    own = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    other_machine = system != "any" and not any(each.endswith(elf.own_name()) for each in system.split("."))
    other_python = abi not in ("none", "abi3") and own not in python.split(".")
    return other_machine or other_python


def _tags(wheel: str) -> tuple[str, str, str]:
    """Python, ABI and platform of a wheel's name."""
    parts = wheel.removesuffix(".whl").split("-")
    return (parts[-3], parts[-2], parts[-1]) if len(parts) >= 5 else ("?", "?", "?")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _is_wheel(wanted: str) -> bool:
    named = re.match(r"[\w.-]+\s*(?:\[[^\]]*\])?\s*@\s*(\S+)", wanted)  # name[extra] @ address
    address = urlsplit(named[1] if named else wanted.split()[0])
    return address.scheme in ("", "file", "http", "https") and address.path.endswith(".whl")


def _configuration_files(environ: Mapping[str, str]) -> Iterator[Path]:
    """Where pip looks for configuration on a Unix system."""
    home = environ.get("HOME", "")
    for folder in (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":"):
        yield Path(folder, "pip", "pip.conf")
    yield Path("/etc/pip.conf")
    if home:
        yield Path(home, ".pip", "pip.conf")
        yield Path(environ.get("XDG_CONFIG_HOME") or Path(home, ".config"), "pip", "pip.conf")
    if named := environ.get("PIP_CONFIG_FILE"):
        yield Path(named)


def _values(file: Path) -> list[str]:
    parser = configparser.RawConfigParser()
    try:
        parser.read(file, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        return []  # pip says what is wrong with it
    items = [item for section in parser.sections() for item in parser.items(section)]
    return [value for key, value in items if key not in ("log", "cache-dir")]


def _paths(values: Iterable[str], environ: Mapping[str, str]) -> Iterator[Path]:
    """The paths of existing files and folders among words, written as such or as `file:` addresses."""
    for word in (word for value in values for word in value.split()):
        text = unquote(urlsplit(word).path) if word.startswith("file:") else word
        if text.startswith("~/"):
            text = environ.get("HOME", "~") + text[1:]
        path = Path(text)
        if word.startswith("file:") and path.name == "simple":
            path = path.parent  # an index by its usual name: its links lead to files beside it
        if path.is_absolute() and os.access(path, os.R_OK):
            yield path
