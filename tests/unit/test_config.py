"""Settings come from file and variables, and what can't be used is said in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinyfaas import config
from tinyfaas.errors import ConfigError

NOWHERE = Path("/dev/null")


def written(folder: Path, text: str) -> Path:
    """A configuration file with this text."""
    file = folder / "tinyfaas.toml"
    file.write_text(text)
    return file


def test_a_variable_overrides_the_file_and_the_file_the_default(tmp_path: Path) -> None:
    file = written(tmp_path, 'data_dir = "/srv/data"\n[mqtt]\nhost = "broker.example"\nport = 1884\n')
    loaded = config.load(file, {"TINYFAAS_MQTT_PORT": "1885", "TINYFAAS_WORKERS": "3", "PATH": "/bin"})
    assert (loaded.mqtt.host, loaded.mqtt.port, loaded.workers, loaded.mqtt.keepalive_s) == (
        "broker.example",
        1885,
        3,
        30,
    )
    assert loaded.data_dir == Path("/srv/data")
    origins = {key: origin for key, _, origin in config.effective(loaded)}
    assert origins["mqtt.host"] == str(file)
    assert origins["mqtt.port"] == "TINYFAAS_MQTT_PORT"
    assert origins["mqtt.keepalive_s"] == "default"


@pytest.mark.parametrize("text", ['node = "pi-01"', '[node]\nname = "pi-01"'])
def test_a_node_is_named_in_one_line_or_in_its_table(tmp_path: Path, text: str) -> None:
    assert config.load(written(tmp_path, text), {}).node.name == "pi-01"


@pytest.mark.parametrize("table", ["uploads", "upload"])
def test_who_may_upload_stands_in_a_table_by_either_name(tmp_path: Path, table: str) -> None:
    loaded = config.load(written(tmp_path, f'[{table}]\nallowed_signers = "/etc/tinyfaas/allowed_signers"'), {})
    assert loaded.uploads.allowed_signers == "/etc/tinyfaas/allowed_signers"


def test_a_node_without_a_name_is_called_like_its_host() -> None:
    assert config.load(NOWHERE, {}).node.name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[mqtt]\nhots = 1", "mqtt.hots: no such setting"),
        ("colour = 1", "colour: no such setting"),
        ("[mqtt]\nport = 0", "mqtt.port: 0 is not an integer from 1 to 65535"),
        ('[mqtt]\nport = "1883"', "mqtt.port: '1883' is not an integer"),
        ("[mqtt]\nport = true", "mqtt.port: True is not an integer"),
        ("mqtt = 3", "mqtt: is a table"),
        ("[limits]\ntimeout_s = nan", "limits.timeout_s: nan is not a number"),
        ('[mqtt]\nprotocol = "4"', 'mqtt.protocol: \'4\' is not one of "5", "3.1.1"'),
        ('[mqtt]\nbase_topic = "a/#"', "mqtt.base_topic: 'a/#' is not a string matching"),
        ("[mqtt", "tinyfaas.toml"),
        (
            '[log]\nlevels = ["gatway=debug"]',
            "tinyfaas.toml: log.levels: 'gatway=debug': write function.<name>, or",
        ),
        (
            '[log]\nlevels = ["gateway=loud"]',
            "log.levels: 'gateway=loud': write one of debug, info, warning, error",
        ),
        ('[log]\nlevels = ["function.a/b=debug"]', "log.levels: 'function.a/b=debug'"),
        ('[log]\nlevels = ["debug"]', "log.levels: 'debug'"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line_that_names_it(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        config.load(written(tmp_path, text), {})
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TINYFAAS_MQTT_PORT", "many", "TINYFAAS_MQTT_PORT: 'many' is not an integer from 1 to 65535"),
        ("TINYFAAS_MQTT_TLS", "maybe", "TINYFAAS_MQTT_TLS: 'maybe' is not true or false"),
        ("TINYFAAS_COLOUR", "red", "TINYFAAS_COLOUR: no such setting"),
        ("TINYFAAS_LOG_LEVELS", "pool=debug,all=info", "TINYFAAS_LOG_LEVELS: log.levels: 'all=info'"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(name: str, value: str, said: str) -> None:
    with pytest.raises(ConfigError, match="^" + said.split(":")[0]) as raised:
        config.load(NOWHERE, {name: value})
    assert said in str(raised.value)


def test_a_password_is_read_from_its_file_and_never_shown(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("open sesame\n")
    loaded = config.load(NOWHERE, {"TINYFAAS_MQTT_PASSWORD_FILE": str(tmp_path / "password")})
    assert loaded.mqtt.password == "open sesame"
    assert "sesame" not in str(list(config.effective(loaded)))


def test_answers_may_go_below_the_response_topic_that_is_set() -> None:
    loaded = config.load(NOWHERE, {"TINYFAAS_MQTT_BASE_TOPIC": "home"})
    assert loaded.mqtt.response_prefixes == ("home/response/", "reply/")


def test_what_was_read_cannot_be_changed() -> None:
    loaded = config.load(NOWHERE, {})
    with pytest.raises(AttributeError):
        loaded.workers = 5  # type: ignore[misc]
    with pytest.raises(AttributeError):
        loaded.mqtt.port = 1  # type: ignore[misc]
