"""The facts beside the figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version

from coordemu.lab.machine import describe_machine


def test_the_machine_is_told() -> None:
    facts = describe_machine()
    assert facts["cpus"] == os.cpu_count()
    assert facts["cffi"] == version("cffi")
    assert json.loads(json.dumps(facts)) == facts
    assert not any(str(value).startswith("/") for value in facts.values())


COUNTS = """
import json, socket, threading
from coordemu.lab.machine import count_resources
counts = [count_resources()]
stop = threading.Event()
thread = threading.Thread(target=stop.wait)
thread.start()
one, two = socket.socketpair()
counts.append(count_resources())
stop.set()
thread.join()
one.close()
two.close()
counts.append(count_resources())
print(json.dumps(counts))
"""


def test_threads_descriptors_and_sockets_are_counted() -> None:
    """In a process of its own: here another test's threads and descriptors may go at any moment."""
    done = subprocess.run([sys.executable, "-c", COUNTS], capture_output=True, text=True, check=True, timeout=30)
    before, during, after = json.loads(done.stdout)
    assert during["threads"] == before["threads"] + 1
    assert during["fds"] == before["fds"] + 2
    assert during["sockets"] == before["sockets"] + 2
    assert during["rss_kib"] > 1000
    assert {name: after[name] for name in ("fds", "sockets")} == {name: before[name] for name in ("fds", "sockets")}
