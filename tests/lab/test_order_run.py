"""The coordinator as a subject: the verdicts of the incident, replays, and that each oracle sees what it is for."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from coordemu.coord.admission import AdmissionGate
from coordemu.coord.conn import MRConn
from coordemu.coord.conn_pool import MRConnPool
from coordemu.coord.coordinator import Coordinator
from coordemu.coord.history import SYNC_REDUCE, UnknownFault
from coordemu.coord.host import HostClient
from coordemu.coord.query import Queries, Query
from coordemu.coord.resize import Resizer
from coordemu.coord.resize_policy import POLICIES, get_policy
from coordemu.coord.rmr import MRCtx
from coordemu.coord.rq import MRWorkQueue
from coordemu.coord.thpool import Thpool
from coordemu.explore.order import OrderPlan, Played, play
from coordemu.explore.portfolio import plan_of
from coordemu.lab.order_run import CoordinatorSubject
from coordemu.lab.order_scenario import OrderScenario, get_order_scenario
from coordemu.lab.subjects import subject_from
from coordemu.runtime.sim_schedule import Replay

PLANS = [OrderPlan("run-on"), OrderPlan("random", 1, rt_seed=2), OrderPlan("pct3", 2, rt_seed=3, length=600)]
LEAN = OrderScenario(workers=(2, 0), clients=2, late_queries=0)


def subject(scenario: str | OrderScenario, policy: str, **changes: Any) -> CoordinatorSubject:
    chosen = get_order_scenario(scenario) if isinstance(scenario, str) else scenario
    return CoordinatorSubject(chosen.override(**changes), get_policy(policy))


def verdicts(what: CoordinatorSubject, plans: Sequence[OrderPlan] = PLANS) -> set[str]:
    return {play(what, plan).verdict for plan in plans}


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_gets_the_verdict_that_the_incident_gave_it(policy: str) -> None:
    assert verdicts(subject("mod-11658", policy)) == {get_policy(policy).expected}


def test_a_deadlock_is_named_without_numbers_and_once() -> None:
    found = {play(subject("mod-11658", "upstream-before"), plan).failure for plan in PLANS}
    signatures = {failure.signature for failure in found if failure is not None}
    assert signatures == {
        ("deadlocked", "cycle: main > workers: terminate when empty > workers-# > module lock"),
    }
    assert all(failure and "a cycle" in failure.sentence for failure in found)


def test_the_facts_of_a_failure_say_who_is_behind_a_port() -> None:
    played = play(subject(LEAN, "upstream-before", late_queries=1), OrderPlan("random", 1))
    ports = played.facts["ports"]
    assert sorted(ports.values()) == [
        "client 0", "client 1", "late client 0", "main", "operator 0", "prober", "shard 0", "warmer",
    ]  # fmt: skip
    main = next(port for port, role in ports.items() if role == "main")
    senders = [key.split()[0] for key, label in played.schedule.steps if key.endswith(f":{main}") and "data" in label]
    assert {ports[port] for port in senders} == {"operator 0", "prober"}


def test_a_historical_fault_makes_the_fix_hang_as_before_it() -> None:
    faulty = CoordinatorSubject(get_order_scenario("mod-11658"), get_policy("upstream-7410"), (SYNC_REDUCE,))
    assert verdicts(faulty) == {"deadlocked"}
    assert faulty.name == "mod-11658, upstream-7410 with sync-reduce"
    assert all(smaller.faults == faulty.faults for smaller in faulty.smaller())
    with pytest.raises(UnknownFault):
        CoordinatorSubject(get_order_scenario("small"), get_policy("upstream-7410"), ("no-such-fault",))


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("clock", ["idle", "explored"])
def test_a_schedule_repeats_its_order(plan: OrderPlan, clock: str) -> None:
    plan = OrderPlan(plan.strategy, plan.seed, clock, plan.rt_seed, 0.1, plan.length)
    what = subject("sawtooth", "upstream-7410", clients=3, queries_per_client=1)
    first = play(what, plan)
    again = play(pickle.loads(pickle.dumps(what)), plan, Replay(first.schedule))
    assert again.verdict == first.verdict
    assert again.schedule.steps == first.schedule.steps
    assert again.facts == first.facts


PLANS_IN_FLIGHT = [
    ("partial-shrink", {"workers": (4, 2)}),
    ("grow", {"workers": (0, 4)}),
    ("grow-more", {"workers": (2, 4)}),
    ("there-and-back", {"workers": (4, 0, 2)}),
    ("grow-and-back", {"workers": (2, 4, 2)}),
    ("two-in-flight", {"workers": (4, 0, 3)}),
    ("two-shrinks-in-flight", {"workers": (4, 1, 3)}),
    ("same-value", {"workers": (3, 3)}),
    ("conn-per-shard", {}),
    ("topology-in-drain", {"workers": (4, 0)}),
    ("topology-grows-in-drain", {"workers": (4, 0)}),
    ("node-lost-in-drain", {"workers": (4, 0)}),
    ("sawtooth", {}),
    ("any-moment", {"workers": (4, 0)}),
    ("small", {}),
    ("smallest", {}),
    ("cold-start", {"workers": (4, 0)}),
]


@pytest.mark.parametrize(("scenario", "changes"), PLANS_IN_FLIGHT)
def test_our_own_policy_is_healthy_under_every_plan(scenario: str, changes: dict[str, Any]) -> None:
    what = subject(scenario, "coordemu-safe", **changes, clients=4, queries_per_client=1)
    plans = [OrderPlan("random", seed, rt_seed=seed) for seed in range(4)]
    plans += [OrderPlan("pct3", seed, "explored", seed, 0.05, 300) for seed in range(2)]
    for plan in plans:
        played = play(what, plan)
        assert (played.verdict, played.failure) == ("healthy", None)
        assert played.facts["sent"] == played.facts["replied"] + played.facts["failed"]


def test_a_pool_that_is_wanted_again_too_soon_hangs_even_the_fix() -> None:
    assert verdicts(subject("there-and-back", "upstream-7410"), PLANS[:1]) == {"deadlocked"}


def test_a_failure_by_the_killed_node_is_the_nodes() -> None:
    scenario = get_order_scenario("node-lost-in-drain").override(workers=(4, 0), clients=4)
    played = play(subject(scenario, "upstream-7410"), OrderPlan())
    assert played.verdict == "healthy"
    assert played.facts["failed"] > 0


def test_a_second_change_is_refused_by_the_policy_that_refuses() -> None:
    played = play(subject("two-in-flight", "upstream-7193"), OrderPlan())
    assert played.verdict == "refused"
    assert played.failure is not None
    assert played.failure.signature == ("refused", "ERR the last change of WORKERS has not ended")


def test_whoever_answers_no_ping_for_a_second_is_degraded_and_for_eight_unresponsive() -> None:
    slow = LEAN.override(latency="3s", clients=1, moment="start", events=(("pause", 10), ("workers", 0)))
    played = play(subject(slow, "upstream-7194"), OrderPlan())
    assert played.verdict == "degraded"
    assert played.failure is not None
    assert played.failure.signature == ("degraded", "PING stood still", "queries stood still")
    assert play(subject(slow.override(latency="20s"), "upstream-7194"), OrderPlan()).verdict == "unresponsive"
    # Where time passes as the strategy likes, a gap says nothing.
    assert play(subject(slow, "upstream-7194"), OrderPlan(clock="explored")).verdict == "healthy"


# ---- each oracle, and what it is for


def played_with(monkeypatch: pytest.MonkeyPatch, sabotage: Callable[[Any], None], **changes: Any) -> Played:
    policy = changes.pop("policy", "upstream-7410")
    with monkeypatch.context() as patch:
        sabotage(patch)
        return play(subject(LEAN, policy, **changes), OrderPlan())


def test_without_sabotage_all_is_well() -> None:
    for policy in ("upstream-7410", "writeup-fix", "shrink-drain-event", "coordemu-safe"):
        played = play(subject(LEAN, policy), OrderPlan())
        assert (played.verdict, played.facts["phase"]) == ("healthy", "over")


def test_a_connection_that_nobody_owns_is_leaked(monkeypatch: pytest.MonkeyPatch) -> None:
    def forget(patch: Any) -> None:
        real = MRConnPool.cut
        patch.setattr(MRConnPool, "cut", lambda pool, keep: real(pool, keep)[1:])

    played = played_with(monkeypatch, forget, policy="coordemu-safe")
    assert played.verdict == "leaked"
    assert played.failure is not None
    assert played.failure.signature == ("leaked", "connections at the shards", "transports owned")
    assert "has 2 transports open, 0 closing, and owns 1" in played.failure.sentence


def test_a_connection_stopped_twice_is_an_illegal_event(monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(patch: Any) -> None:
        real = MRConn.stop

        def stop(conn: MRConn, mode: str = "graceful") -> None:
            real(conn, mode)
            real(conn, mode)

        patch.setattr(MRConn, "stop", stop)

    played = played_with(monkeypatch, twice)
    assert played.verdict == "broken"
    assert played.failure is not None
    assert played.failure.signature[:3] == ("broken", "error", "IllegalTransition")


def test_a_second_reply_is_seen_by_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(patch: Any) -> None:
        real = HostClient.unblock

        def unblock(client: HostClient, reply: bytes) -> None:
            real(client, reply)
            real(client, reply)

        patch.setattr(HostClient, "unblock", unblock)

    played = played_with(monkeypatch, twice)
    assert played.verdict == "broken"
    assert played.failure is not None
    assert played.failure.signature == ("broken", "one answer each")
    assert "a second answer to one query" in played.failure.sentence


def test_the_reply_of_another_query_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def misname(patch: Any) -> None:
        real = HostClient.unblock
        patch.setattr(HostClient, "unblock", lambda client, reply: real(client, reply.replace(b"q", b"p")))

    played = played_with(monkeypatch, misname)
    assert played.failure is not None
    assert "the answer to another query than q" in played.failure.sentence


def test_a_gate_left_shut_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    played = played_with(
        monkeypatch,
        lambda patch: patch.setattr(Resizer, "_open_gate", lambda resizer, resize: None),
        policy="writeup-fix",
    )
    assert played.failure is not None
    assert played.failure.signature == ("broken", "admission gate open")


def test_a_query_that_waits_at_a_gate_for_ever_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    played = played_with(
        monkeypatch,
        lambda patch: patch.setattr(AdmissionGate, "open", lambda gate: []),
        policy="writeup-fix",
        late_queries=1,
    )
    assert played.verdict == "lost"
    assert played.facts["lost"] == 1


def test_a_request_that_never_ends_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    played = played_with(monkeypatch, lambda patch: patch.setattr(MRWorkQueue, "done", lambda queue: None))
    assert played.failure is not None
    assert played.failure.signature == ("broken", "work queue empty")


def test_a_thread_that_stays_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def deaf(patch: Any) -> None:
        patch.setattr(Thpool, "schedule_config_reduce_threads_job", lambda pool, count, when_empty: None)

    played = played_with(monkeypatch, deaf)
    assert played.failure is not None
    assert played.failure.signature == ("broken", "threads as wanted")
    assert "2 worker threads are wanted, and WORKERS is 0" in played.failure.sentence


def test_a_shrink_that_is_forgotten_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def forget(patch: Any) -> None:
        patch.setattr(Resizer, "_request_shrink", lambda resizer, resize: None)

    played = played_with(monkeypatch, forget)
    assert played.failure is not None
    assert played.failure.signature == ("broken", "connections as wanted")


def test_a_receipt_that_never_comes_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def swallow(patch: Any) -> None:
        patch.setattr(Resizer, "_add_receipt", lambda resizer, resize, receipt: None)

    played = played_with(monkeypatch, swallow)
    assert played.failure is not None
    assert played.failure.signature == ("broken", "resizes complete")


def test_receipts_must_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def forge(patch: Any) -> None:
        real = Resizer._add_receipt

        def add(resizer: Resizer, resize: Any, receipt: Any) -> None:
            object.__setattr__(receipt, "delivered", receipt.delivered - 1)
            real(resizer, resize, receipt)

        patch.setattr(Resizer, "_add_receipt", add)

    played = played_with(monkeypatch, forge, policy="shrink-drain-event")
    assert played.failure is not None
    assert played.failure.signature == ("broken", "receipts add up")


def test_a_job_that_raises_loses_its_query_and_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(patch: Any) -> None:
        real = Queries._finish

        def finish(queries: Queries, query: Query) -> None:
            real(queries, query)
            raise RuntimeError("stumbled")

        patch.setattr(Queries, "_finish", finish)

    played = played_with(monkeypatch, stumble)
    assert played.failure is not None
    assert played.failure.signature == ("broken", "no job raises")


def test_a_callback_that_never_runs_loses_the_query(monkeypatch: pytest.MonkeyPatch) -> None:
    played = played_with(monkeypatch, lambda patch: patch.setattr(MRCtx, "_on_reply", lambda ctx, reply, error: None))
    assert played.verdict in ("lost", "deadlocked")


def too_many(coordinator: Coordinator) -> str:
    in_flight = coordinator.queries.in_flight
    return f"{in_flight} queries in flight" if in_flight > 1 else ""


def at_most_one(coordinator: Coordinator) -> None:
    assert coordinator.config.workers == 7, "WORKERS is not 7"


def test_a_users_invariants_are_asked_at_rest_and_at_every_step() -> None:
    scenario, policy = LEAN.override(moment="start"), get_policy("upstream-7410")
    assert play(CoordinatorSubject(scenario, policy, invariants=(too_many,)), OrderPlan()).verdict == "healthy"
    played = play(CoordinatorSubject(scenario, policy, invariants=(too_many, at_most_one)), OrderPlan())
    assert played.failure is not None
    assert played.failure.signature == ("broken", "at_most_one")
    assert played.failure.sentence == "WORKERS is not 7"
    plain = play(CoordinatorSubject(scenario, policy), OrderPlan("random", 1))
    played = play(CoordinatorSubject(scenario, policy, at_every_step=(too_many,)), OrderPlan("random", 1))
    assert played.failure is not None
    assert played.failure.signature == ("broken", "at every step", "# queries in flight")
    assert played.schedule == plain.schedule  # to look changes nothing
    step = int(played.failure.sentence.split()[2].rstrip(":"))
    assert 1 < step < played.steps


def test_chaos_is_a_choice_and_whom_it_strikes_is_forgiven() -> None:
    """Connections are cut and late by the strategy's choice; coordemu-safe is healthy all the same, and it repeats."""
    scenario = get_order_scenario("chaos-in-drain").override(workers=(3, 0), clients=3)
    subject = CoordinatorSubject(scenario, get_policy("coordemu-safe"))
    struck = set()
    for number in range(60):
        played = play(subject, plan_of("portfolio", 1, number, 150))
        assert played.verdict == "healthy", played.failure
        picks = [label for key, label in played.schedule.steps if key == "pick" and label.startswith("fault on")]
        struck |= {label.rsplit(": ", 1)[1] for label in picks} - {"0 of 4"}
        again = play(subject_from(subject.describe()), played.plan, Replay(played.schedule))
        assert again.schedule.steps == played.schedule.steps
    assert struck == {"1 of 4", "2 of 4", "3 of 4"}
