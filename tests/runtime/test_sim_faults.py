"""Network faults: each does what it says, by a plan's call and as a schedule's choice, and none without being asked."""

from __future__ import annotations

import pytest

from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Address
from coordemu.runtime.sim import SimRuntime
from coordemu.runtime.sim_faults import CHAOS_DELAY_NS, KINDS
from coordemu.runtime.sim_schedule import PICK_KEY, Replay, make_strategy
from coordemu.runtime.transport_state import NoHandler


class Peer(NoHandler):
    """Keeps what it is told; a server's answers in kind."""

    def __init__(self, answers=False):
        self.log = []
        self.data = b""
        self.transport = None
        self._answers = answers

    def on_connect(self):
        self.log.append("connect")

    def on_data(self, data):
        self.data += data
        if self._answers:
            self.transport.write(data)

    def on_close(self, reason):
        self.log.append(reason)


class Site:
    """An answering server on a loop of its own task, and clients of it on another loop."""

    def __init__(self, rt):
        self.rt = rt
        self.faults = rt.network.faults
        self.accepted = []
        self.served = rt.loop("server")
        self.loop = rt.loop("clients")
        self.address = self.served.listen(Address(), self._accept).address
        self.task = rt.spawn(self.served.run, name="server")

    def _accept(self, transport):
        peer = Peer(answers=True)
        peer.transport = transport
        self.accepted.append(peer)
        return peer

    def client(self, timeout_ns=None, wait=True):
        peer = Peer()
        peer.transport = self.loop.connect(self.address, peer, timeout_ns)
        while wait and not peer.log:
            self.loop.run_once(None)
        return peer

    def call(self, client, data, limit_ns=5 * NS_PER_S):
        """Whether the answer comes."""
        until_ns = self.rt.now_ns() + limit_ns
        client.transport.write(data)
        while not client.data.endswith(data):
            if client.transport.closed or self.rt.now_ns() >= until_ns:
                return False
            self.loop.run_once(until_ns - self.rt.now_ns())
        return True

    def idle(self, for_ns=NS_PER_S):
        until_ns = self.rt.now_ns() + for_ns
        while self.rt.now_ns() < until_ns:
            self.loop.run_once(until_ns - self.rt.now_ns())

    def end(self):
        self.loop.close()
        self.rt.sleep_ns(30 * NS_PER_S)
        self.served.stop()
        self.task.join()
        self.served.close()


def in_site(scenario, strategy=None, **options):
    rt = SimRuntime(strategy, **options)
    results = []

    def main():
        site = Site(rt)
        results.append(scenario(site))
        site.end()

    outcome = rt.run(main, name="test").check()
    assert outcome.kind == "done"
    return results[0], outcome


def test_a_delay_holds_for_old_and_new_connections_until_it_is_ended():
    def scenario(site):
        took = []
        for extra_ns in (0, NS_PER_MS, 0):
            client = site.client()
            site.faults.delay(site.address, extra_ns)
            for each in (client, site.client()):
                began_ns = site.rt.now_ns()
                assert site.call(each, b"x")
                took.append((site.rt.now_ns() - began_ns) // NS_PER_MS)
        return took

    assert in_site(scenario)[0] == [0, 0, 2, 2, 0, 0]


def test_a_reset_is_seen_at_both_ends_after_what_has_arrived_and_new_connections_work():
    def scenario(site):
        clients = [site.client() for _ in range(2)]
        assert site.call(clients[0], b"x")
        assert site.faults.reset(site.address) == 2
        site.idle()
        assert [client.log for client in clients] == [["connect", "Connection reset by peer"]] * 2
        assert [peer.log for peer in site.accepted] == [["Connection reset by peer"]] * 2
        assert site.call(site.client(), b"y")
        assert site.faults.reset(site.address) == 1

    in_site(scenario)


def test_what_is_on_the_way_is_lost_by_a_reset_and_what_has_arrived_is_not():
    def scenario(site):
        client = site.client()
        client.transport.write(b"arrives")
        site.loop.run_once(0)
        site.rt.sleep_ns(NS_PER_MS)
        client.transport.write(b"is lost")
        site.loop.run_once(0)
        site.faults.reset(site.address)
        site.idle()
        assert site.accepted[0].data == b"arrives"
        assert client.log == ["connect", "Connection reset by peer"]

    in_site(scenario)


def test_the_client_of_a_half_open_connection_learns_nothing():
    def scenario(site):
        client = site.client()
        assert site.call(client, b"x")
        assert site.faults.half_open(site.address) == 1
        assert not site.call(client, b"y", 60 * NS_PER_S)
        assert client.log == ["connect"]
        assert client.transport.connected
        assert site.accepted[0].log == ["Connection reset by peer"]
        assert site.call(site.client(), b"z")

    in_site(scenario)


def test_silence_is_learned_by_nobody_and_ends_for_new_connections():
    def scenario(site):
        client = site.client()
        assert site.faults.silence(site.address) == 1
        assert not site.call(client, b"y", 60 * NS_PER_S)
        assert (client.log, site.accepted[0].log, site.accepted[0].data) == (["connect"], [], b"")
        late = site.client(timeout_ns=NS_PER_S)
        assert late.log == ["connect timed out after 1000 ms"]
        site.faults.restart(site.address)
        assert not site.call(client, b"z")
        assert site.call(site.client(), b"z")

    in_site(scenario)


def test_what_is_sent_into_silence_takes_up_room_for_ever():
    def scenario(site):
        client = site.client()
        site.faults.silence(site.address)
        client.transport.write(b"x" * 1_000_000)
        site.idle()
        return client.transport.buffered

    assert 0 < in_site(scenario)[0] < 1_000_000


def test_a_killed_address_refuses_until_it_is_restarted():
    def scenario(site):
        client = site.client()
        assert site.faults.kill(site.address) == 1
        site.idle()
        assert client.log == ["connect", "Connection reset by peer"]
        assert site.client().log == ["Connection refused"]
        site.faults.restart(site.address)
        assert site.call(site.client(), b"x")

    in_site(scenario)


def test_connections_that_have_ended_are_forgotten():
    def scenario(site):
        for _ in range(5):
            client = site.client()
            assert site.call(client, b"x")
            client.transport.close()
            site.idle()
        assert site.faults.reset(site.address) == 0

    in_site(scenario)


def test_nonsense_is_refused():
    faults = SimRuntime().network.faults
    for kinds, budget, share in ((("flood",), 1, 0.1), (("reset",), -1, 0.1), (("reset",), 1, 1.5)):
        with pytest.raises(ValueError, match="chaos with"):
            faults.chaos(kinds, budget, share)
    with pytest.raises(ValueError, match="negative"):
        faults.delay(Address(port=1), -1)


# ---- as choices


def ten_calls(kinds, budget):
    """What ten calls over five connections came to: "answered", "slow", or what the client was told."""

    def scenario(site):
        if kinds:
            site.faults.chaos(kinds, budget)
        seen = []
        for number in range(10):
            if number % 2 == 0:
                client = site.client(timeout_ns=100 * NS_PER_MS)
            began_ns = site.rt.now_ns()
            if client.transport.closed:
                seen.append(client.log[-1])
            elif site.call(client, b"%d" % number, 300 * NS_PER_MS):
                slow = site.rt.now_ns() - began_ns >= CHAOS_DELAY_NS
                seen.append("slow" if slow else "answered")
            else:
                seen.append(client.log[-1] if client.transport.closed else "nothing")
        return tuple(seen)

    return scenario


SIGNS = {
    "delay": {"slow"},
    "reset": {"Connection reset by peer"},
    "half-open": {"nothing"},
    "silence": {"nothing", "connect timed out after 100 ms"},
    "kill": {"Connection reset by peer", "Connection refused"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_chaos_of_a_kind_is_reached_and_repeated(kind):
    found = []
    for seed in range(40):
        seen, outcome = in_site(ten_calls((kind,), 1), make_strategy("random", seed))
        assert set(seen) <= {"answered"} | SIGNS[kind]
        if set(seen) != {"answered"}:
            found.append((seen, outcome))
    assert found
    assert SIGNS[kind] <= {word for seen, _ in found for word in seen}
    seen, outcome = found[0]
    assert sum(key == PICK_KEY and not label.endswith(": 0 of 2") for key, label in outcome.schedule.steps) == 1
    replay = Replay(outcome.schedule)
    again, repeated = in_site(ten_calls((kind,), 1), replay)
    assert (again, repeated.schedule.steps, replay.left) == (seen, outcome.schedule.steps, 0)


def test_chaos_keeps_to_its_budget():
    counts = set()
    for seed in range(60):
        _, outcome = in_site(ten_calls(KINDS, 3), make_strategy("random", seed))
        picks = [label for key, label in outcome.schedule.steps if key == PICK_KEY]
        counts.add(sum(": 0 of" not in label for label in picks))
    assert counts <= {0, 1, 2, 3}
    assert 3 in counts


def test_chaos_can_be_kept_to_some_addresses():
    def scenario(elsewhere):
        def calls(site):
            other = site.served.listen(Address(), site._accept).address
            site.faults.chaos(("reset",), 1, 1.0, [other if elsewhere else site.address])
            client = site.client()
            return site.call(client, b"x")

        return calls

    for seed in range(5):
        assert in_site(scenario(elsewhere=True), make_strategy("random", seed))[0]
        assert not in_site(scenario(elsewhere=False), make_strategy("random", seed))[0]


@pytest.mark.parametrize("chances", [0.0, 0.5])
def test_without_chaos_nothing_is_ever_lost(chances):
    for seed in range(30):
        seen, _ = in_site(ten_calls((), 0), make_strategy("random", seed), chances=chances)
        assert set(seen) == {"answered"}


def test_a_plan_without_faults_records_no_pick():
    _, outcome = in_site(ten_calls((), 0), make_strategy("random", 1))
    assert all(key != PICK_KEY for key, _ in outcome.schedule.steps)
