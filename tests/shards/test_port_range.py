"""Ports for servers: outside the kernel's range for outgoing connections, each once."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from coordemu.shards import port_range
from coordemu.shards.port_range import LOWEST_PORT, server_ports


def test_ports_stay_below_those_of_outgoing_connections() -> None:
    begin = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = list(server_ports())
    assert ports[-1] == 0
    assert len(set(ports)) == len(ports)
    assert all(LOWEST_PORT <= port < begin for port in ports[:-1])


def test_a_highest_port_is_kept() -> None:
    assert max(server_ports(12_000)) == 12_000


@pytest.mark.parametrize("text", ["1024 65535", "", "nonsense"])
def test_strange_ranges_still_give_a_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    path = tmp_path / "range"
    path.write_text(text)
    monkeypatch.setattr(port_range, "_RANGE_FILE", path)
    ports = list(islice(server_ports(), 3))
    assert ports[0] == 0 or all(LOWEST_PORT <= port < 32_768 for port in ports)


def test_processes_begin_at_different_places(monkeypatch: pytest.MonkeyPatch) -> None:
    firsts = set()
    for pid in range(1000, 1050):
        monkeypatch.setattr(port_range.os, "getpid", lambda pid=pid: pid)
        firsts.add(next(server_ports()))
    assert len(firsts) == 50
