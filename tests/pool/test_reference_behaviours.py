# ruff: noqa: E501 (a table)
"""What the reference says that the model's own tests check (its section 4), and which test of ours shows it here.

One entry per behaviour, in the reference's order and in our words; "-" and a reason where there is nothing to show. The
names are looked up in the files of this directory, so a test that is renamed or lost is missed here.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[1] / "docs" / "client-pool.md"
LEAST = 80

# group, behaviour, file without "test_", test without "test_"; or "-" and why not.
BEHAVIOURS = tuple(
    tuple(cell.strip() for cell in line.split("|"))
    for line in """
pool | a close while warm-ups hang leaves every count at 0 | pool_end | close_while_warm_ups_hang_leaves_nothing
pool | retired: idle ones close now, those in use at their put | pool_end | retired_idle_ones_close_now_and_the_others_at_their_put
pool | a removal lets the next caller through | conn_pool | a_removed_connection_makes_room_for_who_waits
pool | a get waits for the drainer that has the only connection | pool_end | a_get_waits_for_the_drainer_instead_of_failing_at_the_cap
pool | a drainer that never ends is a pool time-out, counted once | pool_end | a_get_whose_drainer_never_ends_times_out
pool | at the cap the next get fails without waiting | pool_end | at_the_cap_without_a_drainer_nobody_waits
pool | a drain is told as idle-1 used+1 used-1 idle+1 | pool_listener | a_drainer_is_told_as_one_that_uses_them
pool | a drain passes over what was never used | pool_end | a_drainer_passes_over_what_was_never_used
pool | a drain sees each once, FIFO and LIFO | pool_end | a_drainer_sees_each_idle_connection_once
pool | cut and resumed, too | behaviours | a_drain_that_was_cut_short_and_taken_up_again_shows_each_once
pool | no creation is told without the handshake | pool_listener | nothing_was_created_when_the_handshake_or_a_hook_refuses
pool | the wait told excludes the dial | pool_listener | the_wait_told_excludes_the_dial
pool | as many idle as asked for, from the start | queued_dials | as_many_as_asked_for_are_ready
pool | a get has another one made | queued_dials | a_get_has_another_made_and_a_remove_too
pool | after a remove both counts are back | queued_dials | a_get_has_another_made_and_a_remove_too
pool | 100 taken, the 101st waits for its time-out | behaviours | a_hundred_taken_and_the_next_one_is_bounded_by_the_time_out
pool | all put: all idle; all removed: as many as asked for | queued_dials | all_given_back_stay_and_all_removed_leave_as_many_as_asked_for
pool | gets and puts against removals with short idle times | conn_pool | many_callers_with_removals_and_short_lives
pool | 1000 gets are exactly 1000 connections | behaviours | a_thousand_open_connections_are_a_thousand
pool | a warm-up that panics leaves nothing counted | queued_dials | warm_ups_that_fail_leave_nothing_counted
pool | a wait is counted, with its length | conn_pool | a_wait_is_counted_with_its_length
pool | the pool's time-out does not cover the dial | conn_pool | the_pools_time_out_does_not_cover_the_dial
pool | dial attempts as configured | conn_dialer | failed_attempts_are_repeated
pool | all attempts fail: the last error | conn_dialer | the_last_error_is_raised_and_said_once
pool | pool exhausted: a waiter has what is put | queued_dials | who_waits_while_the_pool_is_full_gets_what_is_put
pool | no dial slot and the caller gives up: its turn is back | queued_dials | no_slot_to_dial_in_and_the_caller_gives_up
pool | given up while it is dialed: a deadline, no want left | queued_dials | a_deadline_in_the_dial_is_the_callers_not_the_pools
pool | a failed dial keeps its text, and frees everything | queued_dials | a_failed_dial_keeps_its_error_and_frees_everything
pool | one dial slot serves many | queued_dials | one_slot_serves_many_dials_one_after_the_other
pool | what was dialed in the background is used later | queued_dials | a_short_wait_fails_and_the_background_dial_is_used_later
pool | a dial that panics is its caller's error | queued_dials | whatever_a_dialer_raises_is_delivered
pool | dialed, and the caller has gone: idle | queued_dials | a_cancelled_callers_dial_goes_on_and_its_connection_is_listed
pool | the turn goes with a connection that another gets | queued_dials | an_abandoned_connection_goes_to_another_with_its_turn
pool | callers in a hurry: no panic, nothing left | queued_dials | many_callers_in_a_hurry_leave_nothing_behind
pool | all dials fail for all callers: nothing left | behaviours | callers_whose_dials_all_fail_leave_nothing
pool | callers gone before their dials fail: no want left | behaviours | callers_in_a_hurry_whose_dials_fail_later_leave_no_want
pool | failures in between: wants are bounded, and end at 0 | queued_dials | failures_in_between_leave_nothing_behind
pool | close says nothing of one too old | pool_end | close_says_nothing_of_one_that_was_too_old_anyway
pool | close says what a healthy one's close raised | pool_end | close_raises_the_first_error_after_all_are_closed
pool | lifetime off, exact, and with jitter | want_conn | when_a_connection_is_too_old
state | a new machine is CREATED | pool_conn_state | a_new_machine_is_created
state | the names of the states | pool_conn_state | the_six_states_have_upstreams_names
state | UNKNOWN(999) | - | a state is a member of the enumeration or it is nothing
state | an unconditional store is visible | - | there is none; a faulty machine has it (store-idle)
state | legal moves | pool_conn_state | a_legal_move_is_made
state | illegal moves | pool_conn_state | an_illegal_move_raises_and_changes_nothing
state | several sources | pool_conn_state | several_sources_and_an_error_that_names_them_all
state | the fast path | conn_state_machine | the_fast_path_moves_at_once
state | a deadline ends the wait | conn_state_machine | a_deadline_ends_a_wait_and_says_what_it_waited_for
state | ten racing waiters, each once | conn_state_machine | racing_waiters_all_get_their_turn_once
state | queued one by one, served in that order | conn_state_machine | waiters_that_queue_one_by_one_are_served_in_that_order
state | staggered arrivals (there: violations are logged) | behaviours | late_comers_do_not_overtake_those_who_wait
state | many moves at once | conn_state_machine | many_moves_at_once_neither_lose_nor_double_any
state | one at a time is inside the handshake | conn_state_machine | of_ten_who_want_an_unused_one_one_wins_and_has_the_handshake
state | who waits for the handshake has its turn after it | behaviours | who_waits_for_a_handshake_gets_its_turn_after_it
state | of ten who want one idle connection one wins | conn_state_machine | of_ten_who_want_one_idle_connection_one_wins
state | UNUSABLE and back, and by the handshake | conn_state_machine | unusable_goes_round_by_the_handshake
state | used, as derived | pool_conn_state | used_and_unusable_as_upstream_derives_them
state | usable, as derived | pool_conn_state | used_and_unusable_as_upstream_derives_them
state | no allocation on the fast path | - | Python allocates; what a get and a put cost is measured
hooks | called in order | pool_hooks | hooks_are_asked_in_the_order_of_their_adding
hooks | added and removed on a pool in use | behaviours | hooks_come_and_go_on_a_pool_in_use
hooks | a failing get hook ends the asking | pool_hooks | a_failing_get_hook_ends_the_asking_and_the_connection
hooks | a put hook that wants it removed ends the asking | pool_hooks | a_put_hook_that_wants_it_removed_ends_the_asking
hooks | closing one beside the pool is told | pool_hooks | a_close_of_one_beside_the_pool_is_told
hooks | an eviction is told, once | pool_hooks | an_eviction_is_told
hooks | closed by a hook at its put: told once | pool_hooks | a_connection_that_a_hook_closed_at_its_put_is_told_once
wants | a delivery | want_conn | a_delivery_reaches_who_waits
wants | an error is one | want_conn | an_error_is_a_delivery
wants | a second one changes nothing | want_conn | of_two_deliveries_the_second_changes_nothing
wants | given up first | want_conn | giving_up_first_refuses_the_delivery
wants | given up after a delivery: it is handed out | want_conn | giving_up_after_a_delivery_hands_it_out
wants | the context is gone after giving up | want_conn | who_waits_under_a_cancelled_context_gets_nothing
wants | first in, first out | want_conn | the_queue_is_first_in_first_out
wants | many in, many out | want_conn | items_put_in_by_many_come_out_once
wants | finished ones at the front are dropped | want_conn | finished_wants_at_the_front_are_dropped
wants | dropped while others come and go | behaviours | dropping_finished_wants_while_others_come_and_go
turns | another's connection, and one's own dial ends | queued_dials | an_abandoned_connection_goes_to_another_with_its_turn
turns | 100 mixed time-outs, none hangs | queued_dials | many_callers_in_a_hurry_leave_nothing_behind
dial | each attempt has its own deadline | conn_dialer | each_attempt_has_its_own_time_out
dial | an earlier deadline of the caller wins | conn_dialer | an_earlier_deadline_of_the_caller_wins
dial | cancelled in a delay: no further attempt | conn_dialer | cancelling_in_a_delay_ends_the_dial_with_its_last_error
dial | without a time-out the dialer sees none | conn_dialer | without_a_dial_time_out_the_dialer_sees_none
dial | no delay after the last attempt | conn_dialer | there_is_no_delay_after_the_last_attempt
dial | delays: constant, or growing by the attempt | want_conn | delays_between_attempts
dial | a probe has the deadline, or none | behaviours | a_probe_has_the_dials_time_limit_or_none
dial | the prober ends with the pool | conn_dialer | the_prober_ends_with_the_pool
races | a mark taken back against a worker's clear | behaviours | a_mark_that_is_taken_back_while_a_worker_clears_it_stays_cleared
races | a health check against a swap of the socket | behaviours | health_is_looked_at_while_the_socket_is_swapped
races | hooks set against a close | behaviours | hooks_added_while_connections_close_are_told_at_most_once_each
races | relaxed three times, restored ten times | relaxed_timeout | three_reasons_and_ten_who_restore_at_once
others | use keeps a connection young | conn_pool | use_keeps_it_young
others | idling does not | conn_pool | what_was_idle_too_long_is_closed_at_its_next_get
others | of 32 closers one closes | pooled_conn | of_many_closers_one_closes
others | a close hook's setter overwrites | - | there are no close hooks of one connection; the pool's hooks are a list
others | a time limit ends with its call | behaviours | a_time_limit_ends_with_its_call
others | at a drainer cancelling is told, not a time-out | pool_end | cancelling_is_told_rather_than_a_time_out_at_a_drainer
others | a drain that ended in time counts, even late | pooled_conn | a_borrow_that_ended_in_time_is_seen_even_late
others | buffer sizes | - | the runtime's transport has the buffers; a pool knows of none
others | a marked connection is not handed out | workers | callers_pass_over_one_that_is_being_moved
others | two different errors, for marked and for queued | - | it is refused without an error, and another one is taken
others | one that is being moved is pooled at its put | workers | one_in_use_moves_when_it_is_given_back
check | a good one passes | behaviours | looking_at_a_connections_health_takes_nothing_from_its_next_reply
check | a closed one fails | cluster_client | an_idle_connection_that_the_node_has_closed_is_seen_before_its_use
check | what nobody asked for fails | behaviours | what_comes_unasked_makes_a_connection_unhealthy
check | TLS is not unwrapped | - | there is no TLS
sticky | marked: the next use is bad | sticky_conn | one_that_is_of_no_use_is_bad_until_a_reset
sticky | closing it removes it from the pool | sticky_conn | closing_a_bad_one_removes_it_from_the_pool
semaphore | releases against the shortest time-out | behaviours | many_releases_against_the_shortest_time_limit_conserve_the_turn
semaphore | no late time-out after a turn that came in time | turns | a_turn_that_comes_in_time_never_looks_like_a_time_out
""".strip().splitlines()
)
COVERED = tuple(entry for entry in BEHAVIOURS if entry[2] != "-")


def names_in(path: Path) -> set[str]:
    """The names of the tests in a file."""
    found = ast.walk(ast.parse(path.read_text()))
    return {node.name.removeprefix("test_") for node in found if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("file", sorted({entry[2] for entry in COVERED}))
def test_each_behaviour_has_a_test_that_is_there(file: str) -> None:
    there = names_in(HERE / f"test_{file}.py")
    assert [entry[3] for entry in COVERED if entry[2] == file and entry[3] not in there] == []


def test_there_are_enough_and_each_once() -> None:
    assert all(len(entry) == 4 and all(entry) for entry in BEHAVIOURS)
    assert len({entry[:2] for entry in BEHAVIOURS}) == len(BEHAVIOURS)
    assert len(COVERED) >= LEAST
    # A test may show two behaviours, not more.
    names = [entry[3] for entry in COVERED]
    assert max(names.count(name) for name in names) <= 2


def test_the_page_says_how_many() -> None:
    said = re.search(r"(\d+) behaviours, of which (\d+) have a test", PAGE.read_text())
    assert said is not None
    assert (int(said[1]), int(said[2])) == (len(BEHAVIOURS), len(COVERED))
