"""The options: names, limits, one-line errors, the order of what a change sets off, and the trigger's arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordemu.coord.config import (
    OPTIONS,
    UINT32_MAX,
    Config,
    ConfigError,
    connections_per_io_thread,
    connections_per_shard,
    workers_setter,
)


def test_defaults() -> None:
    config = Config()
    assert config.config_get("*") == {
        "search-workers": "0",
        "search-min-operation-workers": "4",
        "search-conn-per-shard": "0",
        "search-io-threads": "1",
        "search-workers-priority-bias-threshold": "1",
        "search-topology-validation-timeout": "30000",
        "search-connect-timeout": "5000",
    }


def test_each_property_is_its_option() -> None:
    config = Config(
        workers=3,
        min_operation_workers=5,
        conn_per_shard=7,
        search_io_threads=2,
        workers_priority_bias_threshold=9,
        topology_validation_timeout_ms=11,
        connect_timeout_ms=13,
    )
    assert config.workers == 3
    assert config.min_operation_workers == 5
    assert config.conn_per_shard == 7
    assert config.search_io_threads == 2
    assert config.workers_priority_bias_threshold == 9
    assert config.topology_validation_timeout_ms == 11
    assert config.connect_timeout_ms == 13
    assert config.config_get("WORKERS") == {"WORKERS": "3"}
    assert "WORKERS=3" in repr(config)


@pytest.mark.parametrize("name", ["WORKERS", "workers", "search-workers", "Search-Workers"])
def test_names_and_aliases_in_any_case(name: str) -> None:
    config = Config()
    config.config_set(name, "5")
    assert config.workers == 5
    assert list(config.config_get(name).values()) == ["5"]


def test_get_takes_a_pattern_and_knows_both_spellings() -> None:
    config = Config()
    assert config.config_get("search-*timeout") == {
        "search-topology-validation-timeout": "30000",
        "search-connect-timeout": "5000",
    }
    assert config.config_get("CONN_*") == {"CONN_PER_SHARD": "0"}
    assert config.config_get("no-such-thing") == {}


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("WORKERS", 0, 16),
        ("MIN_OPERATION_WORKERS", 0, 16),
        ("CONN_PER_SHARD", 0, UINT32_MAX),
        ("TOPOLOGY_VALIDATION_TIMEOUT", 0, UINT32_MAX),
        ("CONNECT_TIMEOUT", 0, UINT32_MAX),
    ],
)
def test_both_bounds_are_taken_and_no_further(name: str, least: int, most: int) -> None:
    config = Config()
    for value in (most, least):
        config.config_set(name, value)
        assert config.config_get(name) == {name: str(value)}
    for value in (least - 1, most + 1):
        with pytest.raises(ConfigError, match=rf"^{name}: {value} is not within {least}\.\.{most}$"):
            config.config_set(name, value)
        assert config.config_get(name) == {name: str(least)}


@pytest.mark.parametrize("value", [0, 257])
def test_the_number_of_io_threads_has_bounds(value: int) -> None:
    with pytest.raises(ConfigError, match=r"SEARCH_IO_THREADS: .* is not within 1\.\.256"):
        Config(search_io_threads=value)
    assert Config(search_io_threads=256).search_io_threads == 256


def test_without_limits_more_workers_are_taken() -> None:
    config = Config(workers=17, limits=False)
    config.config_set("WORKERS", 8192)
    with pytest.raises(ConfigError, match=r"0\.\.8192"):
        config.config_set("WORKERS", 8193)
    with pytest.raises(ConfigError):
        Config(workers=17)


@pytest.mark.parametrize("value", ["", "x", "1.5", "0x10", "--1", "1 2", "٣", "9" * 5000, "1\n2", b"\xff"])
def test_what_is_no_number_gets_a_one_line_error(value: str | bytes) -> None:
    config = Config(workers=2)
    with pytest.raises(ConfigError) as caught:
        config.config_set("WORKERS", value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 120
    assert config.workers == 2


def test_bytes_and_blanks_around_a_number_are_taken() -> None:
    config = Config()
    config.config_set("WORKERS", b"4")
    assert config.workers == 4
    config.config_set("WORKERS", " 6 ")
    assert config.workers == 6


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no option is called 'search-worker'; did you mean 'search-workers'[?]"):
        Config().config_set("search-worker", 1)
    with pytest.raises(ConfigError, match=r"^no option is called 'zzz'$"):
        Config().config_set("zzz", 1)


@pytest.mark.parametrize("name", [option.name for option in OPTIONS if option.immutable])
def test_immutable_options_cannot_be_set(name: str) -> None:
    config = Config()
    with pytest.raises(ConfigError, match="can't be changed"):
        config.config_set(name, 2)
    assert config.config_get(name) == {name: "1"}


def test_setting_workers_stores_then_sizes_the_pool_then_triggers() -> None:
    steps: list[str] = []
    config = Config(workers=4)
    config.on_workers_changed = workers_setter(
        lambda: steps.append(f"SetNumWorkers sees {config.workers}"), lambda: steps.append("COORDINATOR_TRIGGER")
    )
    config.config_set("WORKERS", 1)
    assert steps == ["SetNumWorkers sees 1", "COORDINATOR_TRIGGER"]


def test_each_option_tells_its_own_and_only_when_it_changes() -> None:
    told: list[tuple[str, int, int]] = []
    config = Config(
        on_workers_changed=lambda old, new: told.append(("workers", old, new)),
        on_min_operation_workers_changed=lambda old, new: told.append(("min", old, new)),
        on_conn_per_shard_changed=lambda old, new: told.append(("conn", old, new)),
    )
    config.config_set("WORKERS", 3)
    config.config_set("WORKERS", 3)
    config.config_set("MIN_OPERATION_WORKERS", 2)
    config.config_set("CONN_PER_SHARD", 9)
    config.config_set("CONNECT_TIMEOUT", 1)
    assert told == [("workers", 0, 3), ("min", 4, 2), ("conn", 0, 9)]
    assert config.statistics()["sets"] == 4


def test_a_change_that_is_refused_further_down_is_taken_back() -> None:
    config = Config(workers=4)
    seen: list[int] = []

    def refuse(old: int, new: int) -> None:
        seen.append(config.workers)
        raise RuntimeError(f"not from {old} to {new}")

    config.on_workers_changed = refuse
    with pytest.raises(RuntimeError, match="not from 4 to 0"):
        config.config_set("WORKERS", 0)
    assert seen == [0]
    assert config.workers == 4
    assert config.statistics()["refusals"] == 1
    assert config.statistics()["sets"] == 0


@given(workers=st.integers(0, 16), conn_per_shard=st.integers(0, 100), io_threads=st.integers(1, 256))
def test_connections_per_shard_and_per_io_thread(workers: int, conn_per_shard: int, io_threads: int) -> None:
    config = Config(workers=workers, conn_per_shard=conn_per_shard, search_io_threads=io_threads)
    total = connections_per_shard(config)
    assert total == (conn_per_shard if conn_per_shard else workers + 1)
    share = connections_per_io_thread(config)
    assert share >= 1
    assert (share - 1) * io_threads < total <= share * io_threads


def test_the_write_ups_numbers() -> None:
    assert connections_per_shard(Config(workers=12)) == 13
    assert connections_per_shard(Config(workers=0)) == 1
