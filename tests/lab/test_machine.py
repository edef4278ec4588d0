"""The facts beside the figures."""

from __future__ import annotations

import json
import os
import socket
import threading
from importlib.metadata import version

from coordemu.lab.machine import count_resources, describe_machine


def test_the_machine_is_told() -> None:
    facts = describe_machine()
    assert facts["cpus"] == os.cpu_count()
    assert facts["cffi"] == version("cffi")
    assert json.loads(json.dumps(facts)) == facts
    assert not any(str(value).startswith("/") for value in facts.values())


def test_threads_descriptors_and_sockets_are_counted() -> None:
    before = count_resources()
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    one, two = socket.socketpair()
    try:
        during = count_resources()
    finally:
        stop.set()
        thread.join()
        one.close()
        two.close()
    assert during["threads"] == before["threads"] + 1
    assert during["fds"] == before["fds"] + 2
    assert during["sockets"] == before["sockets"] + 2
    assert during["rss_kib"] > 1000
    after = count_resources()
    assert {name: after[name] for name in ("fds", "sockets")} == {name: before[name] for name in ("fds", "sockets")}
