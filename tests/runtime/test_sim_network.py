"""The network in memory: order, ports, handshakes, bounds."""

from __future__ import annotations

import pytest

from coordemu.runtime.base import NS_PER_MS, NS_PER_US, Address
from coordemu.runtime.sim import SimRuntime
from coordemu.runtime.sim_network import FIRST_PORT
from coordemu.runtime.sim_schedule import make_strategy
from coordemu.runtime.sim_socket import PIPE_BYTES
from coordemu.runtime.transport_state import NoHandler


class Peer(NoHandler):
    """Keeps what it is told, and tells a function."""

    def __init__(self, heard=lambda data: None):
        self.data = b""
        self.log = []
        self.transport = None
        self._heard = heard

    def on_connect(self):
        self.log.append("connect")

    def on_data(self, data):
        self.data += data
        self._heard(data)

    def on_close(self, reason):
        self.log.append(reason)


def two_clients(rt, order):
    """Two clients, in tasks of their own, send ten numbered pieces each; the server notes what comes."""
    loop = rt.loop("server")
    peers = []

    def heard(data):
        order.append(data)
        if sum(len(piece) for piece in order) == 40:
            loop.stop()

    def accept(transport):
        peers.append(Peer(heard))
        return peers[-1]

    address = loop.listen(Address(), accept).address

    def send(letter):
        mine = rt.loop(letter)
        peer = Peer()
        peer.transport = mine.connect(address, peer)
        while not peer.log:
            mine.run_once(None)
        for number in range(10):
            peer.transport.write(b"%s%d" % (letter.encode(), number))
            mine.run_once(0)
        peer.transport.close()
        mine.close()

    tasks = [rt.spawn(send, letter, name=letter) for letter in "ab"]
    loop.run()
    assert all(task.join() for task in tasks)
    loop.close()


@pytest.mark.parametrize("latency_ns", [0, 10 * NS_PER_US])
@pytest.mark.parametrize("name", ["run-on", "random", "pct3"])
def test_each_direction_keeps_its_order_and_directions_do_not_keep_each_others(name, latency_ns):
    orders = set()
    for seed in range(30):
        order = []
        rt = SimRuntime(make_strategy(name, seed, 200), latency_ns=latency_ns)
        rt.run(lambda rt=rt, order=order: two_clients(rt, order), name="test").check()
        together = b"".join(order)
        pieces = [together[i : i + 2] for i in range(0, 40, 2)]
        for letter in (b"a", b"b"):
            assert [piece for piece in pieces if piece[:1] == letter] == [b"%s%d" % (letter, i) for i in range(10)]
        orders.add(together)
    if name == "run-on":
        assert len(orders) == 1
    else:
        assert len(orders) > 2


def test_ports_are_the_same_in_every_run():
    for _ in range(2):
        rt = SimRuntime()
        loop = rt.loop("io")
        assert loop.listen(Address(), lambda transport: Peer()).address == Address(port=FIRST_PORT)
        assert loop.listen(Address(), lambda transport: Peer()).address == Address(port=FIRST_PORT + 1)
        loop.close()


def in_sim(scenario, **options):
    rt = SimRuntime(**options)
    rt.run(lambda: scenario(rt), name="test").check()


def test_a_delivery_takes_the_networks_time():
    def scenario(rt):
        loop = rt.loop("io")
        server = Peer()
        listener = loop.listen(Address(), lambda transport: server)
        client = Peer()
        client.transport = loop.connect(listener.address, client)
        began_ns = rt.now_ns()
        while not client.log:
            loop.run_once(None)
        assert rt.now_ns() - began_ns == NS_PER_MS
        client.transport.write(b"x")
        while not server.data:
            loop.run_once(None)
        assert rt.now_ns() - began_ns == 2 * NS_PER_MS
        loop.close()

    in_sim(scenario, latency_ns=NS_PER_MS)


def test_a_full_backlog_keeps_a_client_waiting_and_a_closing_listener_refuses_it():
    def scenario(rt):
        loop, away = rt.loop("io"), rt.loop("away")
        listener = loop.listen(Address(), lambda transport: Peer(), backlog=1)
        clients = [Peer() for _ in range(3)]
        for client in clients:
            client.transport = away.connect(listener.address, client)
        for _ in range(5):
            away.run_once(NS_PER_MS)
        assert [client.log for client in clients] == [["connect"], [], []]
        loop.run_once(NS_PER_MS)  # accepts the first, and then there is room
        for _ in range(5):
            away.run_once(NS_PER_MS)
        assert [client.log for client in clients][:2] == [["connect"], ["connect"]]
        while clients[2].log != ["connect"]:
            loop.run_once(NS_PER_MS)
            away.run_once(NS_PER_MS)
        late = [Peer() for _ in range(2)]
        for client in late:
            client.transport = away.connect(listener.address, client)
        for _ in range(3):
            away.run_once(NS_PER_MS)
        listener.close()
        for _ in range(3):
            away.run_once(NS_PER_MS)
        assert [client.log for client in late] == [["connect", "Connection reset by peer"], ["Connection refused"]]
        away.close()
        loop.close()

    in_sim(scenario)


def test_a_pipe_holds_so_much_and_no_more():
    def scenario(rt):
        loop = rt.loop("io")
        server = Peer()

        def accept(transport):
            server.transport = transport
            transport.pause_reading()
            return server

        client = Peer()
        client.transport = loop.connect(loop.listen(Address(), accept).address, client)
        while not client.log or server.transport is None:
            loop.run_once(None)
        client.transport.write(b"x" * (PIPE_BYTES + 1000))
        loop.run_once(NS_PER_MS)
        assert client.transport.buffered == 1000
        server.transport.resume_reading()
        while client.transport.buffered:
            loop.run_once(None)
        while len(server.data) < PIPE_BYTES + 1000:
            loop.run_once(None)
        loop.close()

    in_sim(scenario)
