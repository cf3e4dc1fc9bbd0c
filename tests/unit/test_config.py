"""A configuration is complete and valid, or an error names the setting, its value and the remedy."""

import dataclasses
import json
import math
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from rayd.config import STORE_BYTES_MIN, Config, ConfigError, Environment

PLAIN = Environment(temp_root="/nowhere")


def make(**given: Any) -> Config:
    return Config.make(environment=PLAIN, **given)


def test_what_is_not_given_is_filled_in_from_the_machine() -> None:
    config = make()
    assert config.head
    assert (config.host, config.port) == ("127.0.0.1", 6379)
    assert 1 <= config.num_cpus <= len(os.sched_getaffinity(0))
    assert config.object_store_memory >= STORE_BYTES_MIN
    assert config.temp_dir == "/nowhere/ray"
    assert config.node_name == os.uname().nodename
    assert config.session_name == ""


def test_an_embedded_daemon_takes_any_free_port_unless_told_otherwise() -> None:
    assert make(embedded_pid=1).port == 0
    assert make(embedded_pid=1, port=7000).port == 7000


def test_what_is_given_is_kept() -> None:
    config = make(num_cpus=2.5, num_gpus=1, resources={"disk": 3}, labels={"zone": "a"}, memory=7, port=0)
    assert (config.num_cpus, config.num_gpus, config.memory, config.port) == (2.5, 1, 7, 0)
    assert (config.resources, config.labels) == ({"disk": 3}, {"zone": "a"})


def test_zero_cpus_are_a_valid_amount() -> None:
    assert make(num_cpus=0).num_cpus == 0


def test_localhost_is_the_loopback_address() -> None:
    assert make(host="localhost").host == "127.0.0.1"


def test_a_configuration_survives_the_way_to_the_daemon() -> None:
    config = dataclasses.replace(make(resources={"disk": 0.5}, labels={"a": "ü"}, embedded_pid=7), session_name="s")
    assert Config.from_json(config.to_json()) == config
    assert "\n" not in config.to_json()


def test_the_session_lies_in_the_temp_dir() -> None:
    assert dataclasses.replace(make(), session_name="session_1").session_dir == "/nowhere/ray/session_1"


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("num_cpus", -1, ["num_cpus=-1", "0 or more"]),
        ("num_cpus", math.inf, ["num_cpus=inf", "finite"]),
        ("num_cpus", math.nan, ["num_cpus=nan", "finite"]),
        ("num_cpus", "4", ["num_cpus='4'", "number"]),
        ("num_cpus", True, ["num_cpus=True", "number"]),
        ("num_gpus", 0.5, ["num_gpus=0.5", "whole"]),
        ("resources", {"disk": -2}, ["resources=", "-2", "'disk'"]),
        ("resources", {"CPU": 2}, ["resources=", "num_cpus"]),
        ("resources", {"GPU": 2}, ["num_gpus"]),
        ("resources", {"": 2}, ["''", "non-empty"]),
        ("resources", {"disk": None}, ["None", "'disk'", "number"]),
        ("labels", {"zone": 3}, ["'zone': 3"]),
        ("memory", -1, ["memory=-1"]),
        ("memory", 1.5, ["memory=1.5", "whole number of bytes"]),
        ("object_store_memory", 10, ["object_store_memory=10", "75 MiB"]),
        ("object_store_memory", "1G", ["object_store_memory='1G'", "bytes"]),
        ("port", 70000, ["port=70000", "65535"]),
        ("port", "6379", ["port='6379'"]),
        ("host", "0.0.0.0", ["host='0.0.0.0'", "127.0.0.1"]),
        ("log_level", "loud", ["log_level='loud'", "debug, info, warning, error"]),
    ],
)
def test_a_value_that_cannot_be_used_is_named_with_the_remedy(field: str, value: object, words: list[str]) -> None:
    with pytest.raises(ConfigError) as raised:
        make(**{field: value})
    assert all(word in str(raised.value) for word in words), str(raised.value)
    assert raised.value.field == field
    assert raised.value.flag == "--" + field.replace("_", "-")


def test_the_error_is_a_value_error_and_survives_pickling() -> None:
    with pytest.raises(ValueError, match="num_cpus=-1") as raised:
        make(num_cpus=-1)
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)


def test_the_store_is_never_filled_in_below_its_least_size() -> None:
    environment = Environment(store_share=1e-9)
    assert Config.make(environment=environment).object_store_memory == STORE_BYTES_MIN


def test_the_store_is_capped() -> None:
    environment = Environment(store_bytes_max=100 * 2**20)
    assert Config.make(environment=environment).object_store_memory == 100 * 2**20


@pytest.mark.parametrize("text", ["", "[]", '{"head": true}', '{"unknown": 1}', "not json"])
def test_a_text_that_is_no_configuration_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="config="):
        Config.from_json(text)


def test_values_are_checked_again_when_they_arrive() -> None:
    data = json.loads(make().to_json()) | {"num_cpus": -1}
    with pytest.raises(ConfigError, match="num_cpus=-1"):
        Config.from_json(json.dumps(data))


def test_a_relative_temp_dir_is_meant_from_here() -> None:
    assert make(temp_dir="here").temp_dir == os.path.abspath("here")


def test_the_environment_is_read_by_the_names_that_ray_users_set() -> None:
    environment = Environment.read(
        {
            "RAY_ADDRESS": "127.0.0.1:7",
            "RAY_TMPDIR": "/scratch/",
            "CUDA_VISIBLE_DEVICES": "0",
            "RAY_DEFAULT_OBJECT_STORE_MEMORY_PROPORTION": "0.5",
            "RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES": "1e9",
            "RAYD_TOKEN_FILE": "/safe/token",
            "RAYD_INSECURE_UNENCRYPTED_NETWORK": "1",
        }
    )
    assert environment == Environment(
        address="127.0.0.1:7",
        temp_root="/scratch",
        visible_gpus="0",
        store_share=0.5,
        store_bytes_max=10**9,
        token_file="/safe/token",
        unencrypted=True,
    )


def test_an_empty_variable_counts_as_not_set() -> None:
    assert Environment.read({"RAY_ADDRESS": "", "RAY_TMPDIR": ""}) == Environment()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RAY_TMPDIR", "relative"),
        ("RAY_DEFAULT_OBJECT_STORE_MEMORY_PROPORTION", "much"),
        ("RAY_DEFAULT_OBJECT_STORE_MEMORY_PROPORTION", "1.5"),
        ("RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES", "all"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        Environment.read({name: value})


def test_sessions_lie_in_the_folder_ray_of_the_temp_root(tmp_path: Path) -> None:
    assert Environment(temp_root=str(tmp_path)).temp_dir() == f"{tmp_path}/ray"
    (tmp_path / "ray").mkdir()
    assert Environment(temp_root=str(tmp_path)).temp_dir() == f"{tmp_path}/ray"


@pytest.mark.skipif(os.getuid() != 0, reason="only the superuser can give a folder to somebody else")
def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "ray").mkdir()
    os.chown(tmp_path / "ray", 12345, 12345)
    assert Environment(temp_root=str(tmp_path)).temp_dir() == f"{tmp_path}/ray-0"


@pytest.mark.parametrize(
    ("given", "head", "why"),
    [("ftp://host", True, "is no journal"), ("", True, "is empty"), ("/a/file", False, "is for the head")],
)
def test_what_is_no_journal_is_refused(given: str, head: bool, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as raised:
        Config.make(environment=Environment(), head=head, journal=given)
    assert raised.value.flag == "--journal"


def test_a_head_that_can_be_found_again_has_a_journal_beside_its_token(tmp_path: Path) -> None:
    environment = Environment(token_file=str(tmp_path / "token"))

    def journal(**given: Any) -> tuple[str, bool]:
        config = Config.make(environment=environment, **given)
        return config.journal, config.journal_kept

    assert journal(port=7000) == (f"{tmp_path}/journal-127.0.0.1-7000.sqlite", False)
    assert journal(port=0) == ("", False)
    assert journal(head=False, join="127.0.0.1:7000", port=7001) == ("", False)
    assert journal(embedded_pid=1) == ("", False)
    assert journal(journal="none") == ("", True)
    assert journal(journal="rediss://host", port=0) == ("rediss://host", True)
    assert journal(journal=f"{tmp_path}/x") == (f"{tmp_path}/x", True)
