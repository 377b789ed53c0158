# SPDX-License-Identifier: Apache-2.0
"""The subscriber against every order of messages, and against a publisher model under random loss."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from directory_client.events import Changed, Snapshot
from directory_client.subscriber import (
    ASK_AGAIN_S,
    CONFIRM_S,
    SILENT_S,
    UNKNOWN_S,
    AskSnapshot,
    Push,
    SnapshotAnswer,
    State,
    Subscribe,
    Subscriber,
    Unsubscribe,
)

NODE = 77
RED, BLUE = 7001, 7002


def push(
    vni: int,
    seq: int,
    epoch: int = 1,
    incarnation: int = 9,
    revision: int = 0,
    node: int = NODE,
    total: int = 0,
) -> Push:
    operations = [{"op": "vnet", "seq": seq}]
    return Push(node, vni, seq, epoch, incarnation, revision or 100 + seq, 0, operations, sum=total)


def answer(
    seq: dict[int, int], epoch: int = 1, incarnation: int = 9, revision: int = 100, node: int = NODE
) -> SnapshotAnswer:
    return SnapshotAnswer(node, epoch, incarnation, revision, seq, [(vni, [{"op": "vnet"}]) for vni in seq])


def asked(actions: list) -> AskSnapshot:
    found = [action for action in actions if isinstance(action, AskSnapshot)]
    assert len(found) == 1, actions
    return found[0]


def active(seq: dict[int, int], accept=None) -> Subscriber:
    """A subscriber that has come to ACTIVE the usual way at time 0."""
    subscriber = Subscriber(accept)
    identify = asked(subscriber.start(0))
    assert subscriber.snapshot(identify.number, answer({}), 0) == [Subscribe(NODE)]
    ask = asked(subscriber.push(push(0, sum(seq.values())), 0))
    assert ask.whole
    assert isinstance(subscriber.snapshot(ask.number, answer(seq), 0)[0], Snapshot)
    assert subscriber.state is State.ACTIVE
    return subscriber


def seqs(actions: list) -> list[tuple[int, int]]:
    return [(a.vni, a.operations[0]["seq"]) for a in actions if isinstance(a, Changed)]


def test_pushes_in_order_are_delivered():
    subscriber = active({RED: 5})
    assert seqs(subscriber.push(push(RED, 6), 1)) == [(RED, 6)]
    assert seqs(subscriber.push(push(RED, 7), 1)) == [(RED, 7)]
    assert seqs(subscriber.push(push(BLUE, 1), 1)) == [(BLUE, 1)]  # a new topic begins with 1


def test_a_push_before_the_snapshot_is_kept_and_follows_it():
    subscriber = Subscriber()
    identify = asked(subscriber.start(0))
    subscriber.snapshot(identify.number, answer({}), 0)
    ask = asked(subscriber.push(push(RED, 6), 0))
    assert subscriber.push(push(RED, 7), 0) == []
    actions = subscriber.snapshot(ask.number, answer({RED: 6}), 0)
    assert isinstance(actions[0], Snapshot)
    assert seqs(actions) == [(RED, 7)]


def test_a_push_that_the_snapshot_holds_is_not_delivered_again():
    subscriber = active({RED: 5})
    assert subscriber.push(push(RED, 5), 1) == []
    assert subscriber.duplicates == 1
    assert seqs(subscriber.push(push(RED, 6), 1)) == [(RED, 6)]
    assert subscriber.push(push(RED, 6), 1) == []


def test_a_gap_asks_for_a_snapshot_and_goes_on_from_it():
    subscriber = active({RED: 5})
    ask = asked(subscriber.push(push(RED, 8), 1))
    assert subscriber.state is State.SYNCING
    assert subscriber.push(push(RED, 9), 1) == []
    actions = subscriber.snapshot(ask.number, answer({RED: 8}), 1)
    assert seqs(actions) == [(RED, 9)]
    assert subscriber.resyncs == {"gap": 1}


def test_a_lost_last_message_is_noticed_by_the_heartbeat():
    subscriber = active({RED: 5, BLUE: 2})
    assert subscriber.push(push(0, 7), 1) == []
    assert asked(subscriber.push(push(0, 8), 1)).whole


def test_a_push_of_another_v_net_shows_that_one_was_lost_and_waits_for_the_snapshot():
    subscriber = active({RED: 5, BLUE: 2})
    assert seqs(subscriber.push(push(RED, 6, total=8), 1)) == [(RED, 6)]
    actions = subscriber.push(push(BLUE, 4, total=10, revision=140), 1)  # of blue's own, 3 is missing
    assert asked(actions).whole
    subscriber = active({RED: 5, BLUE: 2})
    actions = subscriber.push(push(BLUE, 3, total=9, revision=140), 1)  # red's 6 is missing
    assert seqs(actions) == []
    assert subscriber.revision < 140
    actions = subscriber.snapshot(asked(actions).number, answer({RED: 6, BLUE: 2}), 1)
    assert seqs(actions) == [(BLUE, 3)]
    assert subscriber.resyncs == {"gap": 1}


def test_a_heartbeat_without_a_gap_tells_that_the_revision_is_reached():
    subscriber = active({RED: 5})
    subscriber.push(push(0, 5, revision=140), 1)
    assert subscriber.revision == 140


def test_a_restarted_publisher_is_noticed_though_its_numbers_fit():
    subscriber = active({RED: 5})
    ask = asked(subscriber.push(push(RED, 6, epoch=2), 1))
    actions = subscriber.snapshot(ask.number, answer({RED: 6}, epoch=2), 1)
    assert isinstance(actions[0], Snapshot)
    assert seqs(subscriber.push(push(RED, 7, epoch=2), 1)) == [(RED, 7)]
    assert subscriber.resyncs == {"epoch": 1}


def test_a_restarted_publisher_is_noticed_by_its_heartbeat():
    subscriber = active({RED: 5})
    assert asked(subscriber.push(push(0, 0, epoch=2), 1)).whole


def test_a_kept_push_of_the_publisher_before_is_dropped():
    subscriber = active({RED: 5})
    ask = asked(subscriber.push(push(0, 9), 1))  # a gap
    subscriber.push(push(RED, 6), 1)  # of epoch 1
    actions = subscriber.snapshot(ask.number, answer({RED: 0}, epoch=2), 1)
    assert seqs(actions) == []
    assert seqs(subscriber.push(push(RED, 1, epoch=2), 1)) == [(RED, 1)]


def test_another_incarnation_begins_anew():
    subscriber = active({RED: 5})
    ask = asked(subscriber.push(push(RED, 6, incarnation=10), 1))
    snapshot = subscriber.snapshot(ask.number, answer({RED: 6}, incarnation=10, revision=3), 1)[0]
    assert isinstance(snapshot, Snapshot)
    assert (snapshot.incarnation, snapshot.revision) == (10, 3)
    assert subscriber.resyncs == {"incarnation": 1}


def test_silence_asks_for_a_snapshot_and_keeps_asking():
    subscriber = active({RED: 5})
    assert subscriber.tick(SILENT_S - 0.01) == []
    first = asked(subscriber.tick(SILENT_S))
    assert subscriber.tick(SILENT_S + ASK_AGAIN_S - 0.01) == []
    second = asked(subscriber.tick(SILENT_S + ASK_AGAIN_S))
    late = subscriber.snapshot(first.number, answer({RED: 5}), 5)
    assert late == []  # only the answer that was asked last counts
    assert isinstance(subscriber.snapshot(second.number, answer({RED: 5}), 5)[0], Snapshot)


def test_it_is_asked_more_rarely_the_longer_it_is_in_vain():
    subscriber = active({RED: 5})
    at = SILENT_S
    asked(subscriber.tick(at))
    for waits_s in (1.0, 2.0, 4.0, 8.0, 8.0):
        assert subscriber.tick(at + waits_s - 0.01) == []
        at += waits_s
        last = asked(subscriber.tick(at))
    subscriber.piece_came(last.number, at + 7)  # so long, then, the next one may take
    assert subscriber.tick(at + 14.9) == []
    assert isinstance(subscriber.snapshot(last.number, answer({RED: 5}), at + 14.9)[0], Snapshot)
    at += 14.9 + SILENT_S
    asked(subscriber.tick(at))
    assert asked(subscriber.tick(at + ASK_AGAIN_S)).whole


def test_what_was_asked_of_a_publisher_that_ended_is_asked_again_at_once():
    subscriber = active({RED: 5})
    first = asked(subscriber.push(push(0, 0, epoch=2), 1))
    assert subscriber.push(push(0, 0, epoch=2), 2) == subscriber.push(push(RED, 1, epoch=2), 2) == []
    second = asked(subscriber.push(push(0, 0, epoch=3), 2))
    assert subscriber.snapshot(first.number, answer({RED: 1}, epoch=2), 2) == []
    assert isinstance(subscriber.snapshot(second.number, answer({RED: 0}, epoch=3), 2)[0], Snapshot)


def test_a_subscription_that_is_not_confirmed_asks_all_the_same():
    subscriber = Subscriber()
    identify = asked(subscriber.start(0))
    subscriber.snapshot(identify.number, answer({}), 0)
    assert subscriber.tick(CONFIRM_S - 0.01) == []
    assert asked(subscriber.tick(CONFIRM_S)).whole


def test_a_node_that_a_new_store_does_not_know_loses_nothing_and_is_asked_for_again():
    subscriber = Subscriber()
    ask = asked(subscriber.start(0))
    assert subscriber.snapshot(ask.number, answer({}, node=0), 0) == []
    assert subscriber.undeclared
    assert subscriber.tick(UNKNOWN_S - 0.01) == []
    again = asked(subscriber.tick(UNKNOWN_S))
    assert subscriber.snapshot(again.number, answer({}, node=0), 1) == []
    assert not asked(subscriber.node_is(NODE, 1)).whole  # a heartbeat's answer says that it is declared now


def test_a_node_declared_anew_changes_its_topics():
    subscriber = active({RED: 5})
    assert subscriber.node_is(NODE, 1) == []
    ask = asked(subscriber.node_is(78, 1))
    assert subscriber.snapshot(ask.number, answer({}, node=78), 1) == [Unsubscribe(NODE), Subscribe(78)]
    ask = asked(subscriber.push(push(0, 0, node=78), 1))
    assert isinstance(subscriber.snapshot(ask.number, answer({}, node=78), 1)[0], Snapshot)


def test_a_node_that_was_removed_while_nobody_followed_is_told_so_once():
    subscriber = Subscriber()
    subscriber.knows(9, 100)
    ask = asked(subscriber.start(0))
    assert subscriber.snapshot(ask.number, answer({}, node=0), 0) == [Snapshot(9, 100, 0, [])]
    again = asked(subscriber.tick(UNKNOWN_S))
    assert subscriber.snapshot(again.number, answer({}, node=0), 1) == []
    assert not subscriber.undeclared


def test_an_older_store_takes_nothing_away():
    subscriber = Subscriber()
    subscriber.knows(9, 101)
    ask = asked(subscriber.start(0))
    assert subscriber.snapshot(ask.number, answer({}, node=0), 0) == []
    assert subscriber.undeclared


def test_a_snapshot_that_is_older_than_what_is_known_is_no_answer():
    subscriber = active({RED: 5})
    subscriber.revision = 101
    ask = asked(subscriber.push(push(RED, 7), 1))
    assert subscriber.snapshot(ask.number, answer({RED: 5}), 1) == []
    assert subscriber.resyncs["older"] == 1
    again = asked(subscriber.tick(1 + UNKNOWN_S))
    newer = answer({RED: 7}, revision=101)
    assert isinstance(subscriber.snapshot(again.number, newer, 2)[0], Snapshot)


def test_a_removed_node_knows_nothing_any_more():
    subscriber = active({RED: 5})
    ask = asked(subscriber.node_is(0, 1))
    actions = subscriber.snapshot(ask.number, answer({}, node=0), 1)
    assert actions == [Unsubscribe(NODE), Snapshot(9, 100, 0, [])]


def test_another_server_begins_anew():
    subscriber = active({RED: 5})
    actions = subscriber.start(1)
    assert actions[0] == Unsubscribe(NODE)
    assert not asked(actions).whole
    assert subscriber.push(push(RED, 6), 1) == []  # of the server before


def test_pushes_for_other_nodes_are_ignored():
    subscriber = active({RED: 5})
    assert subscriber.push(push(RED, 9, node=NODE + 1), 1) == []
    assert subscriber.state is State.ACTIVE


def test_v_nets_of_other_workers_count_but_are_not_delivered():
    subscriber = active({RED: 5, BLUE: 1}, accept=lambda vni: vni == BLUE)
    assert subscriber.push(push(RED, 6), 1) == []
    assert seqs(subscriber.push(push(BLUE, 2), 1)) == [(BLUE, 2)]
    assert subscriber.push(push(0, 8), 1) == []  # the sum holds
    assert asked(subscriber.push(push(RED, 8), 1)).whole  # a gap there is a gap all the same


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["change", "change", "change", "lose", "twice", "heartbeat", "snapshot", "restart", "tick"]
            ),
            st.sampled_from([[RED], [BLUE], [RED, BLUE], [BLUE, RED]]),
        ),
        max_size=60,
    )
)
def test_what_is_delivered_is_always_the_publishers_history(steps):
    """The model: each V-net's state is the list of its changes. Whatever is lost, repeated or restarted, the
    subscriber's state is a prefix of the truth, and the truth itself once it is quiet."""
    now, epoch, revision = 0.0, 1, 100
    truth: dict[int, list[int]] = {RED: [], BLUE: []}
    seq = {RED: 0, BLUE: 0}
    mine: dict[int, list[int]] = {}
    question: list[AskSnapshot] = []
    subscriber = Subscriber()

    def do(actions: list) -> None:
        for action in actions:
            if isinstance(action, AskSnapshot):
                question[:] = [action]
            elif isinstance(action, Snapshot):
                mine.clear()
                mine.update({vni: list(ops[0]["state"]) for vni, ops in action.vnets})
            elif isinstance(action, Changed):
                mine[action.vni].append(action.operations[0]["number"])
        for vni, state in mine.items():
            assert state == truth[vni][: len(state)]
        if subscriber.state is State.ACTIVE:  # what it says that it has reached it has, of every V-net
            reached = {vni: [one for one in truth[vni] if one <= subscriber.revision] for vni in truth}
            assert all(mine.get(vni, [])[: len(state)] == state for vni, state in reached.items())

    def answer_question() -> None:
        if question:
            vnets = [(vni, [{"op": "vnet", "state": list(state)}]) for vni, state in truth.items()]
            ask = question.pop()
            do(
                subscriber.snapshot(
                    ask.number, SnapshotAnswer(NODE, epoch, 9, revision, dict(seq), vnets), now
                )
            )

    def heartbeat() -> None:
        do(subscriber.push(Push(NODE, 0, sum(seq.values()), epoch, 9, revision, 0, []), now))

    do(subscriber.start(now))
    for step, vnis in steps:
        now += 0.01
        if step in ("change", "lose", "twice"):
            revision += 1
            for vni in vnis:
                truth[vni].append(revision)
            messages = []
            for vni in vnis:
                seq[vni] += 1
                operations = [{"op": "x", "number": revision}]
                total, last = sum(seq.values()), vni == vnis[-1]
                one = Push(NODE, vni, seq[vni], epoch, 9, revision, 0, operations, sum=total, last=last)
                messages.append(one)
            lost = len(messages) // 2 if step == "lose" else len(messages)  # of two only the second
            for message in messages[:lost] * (2 if step == "twice" else 1):
                do(subscriber.push(message, now))
        elif step == "heartbeat":
            heartbeat()
        elif step == "snapshot":
            answer_question()
        elif step == "restart":
            epoch += 1
            seq = {RED: 0, BLUE: 0}
        elif step == "tick":
            now += 1.0
            do(subscriber.tick(now))
    for _ in range(6):
        now += 1.0
        heartbeat()
        do(subscriber.tick(now))
        answer_question()
    assert subscriber.state is State.ACTIVE
    assert mine == truth


def test_a_change_that_is_too_large_for_a_push_is_a_snapshot() -> None:
    subscriber = active({RED: 1, BLUE: 1})
    before = subscriber.revision
    large = replace(push(RED, 2, revision=900), operations=[{"op": "resync"}])
    ask = asked(subscriber.push(large, 1.0))
    assert ask.whole
    assert subscriber.revision == before  # it does not have it yet
    (snapshot,) = subscriber.snapshot(ask.number, answer({RED: 2, BLUE: 1}, revision=900), 1.0)
    assert isinstance(snapshot, Snapshot)
    assert subscriber.revision == 900
    assert subscriber.push(push(RED, 3), 1.0) != []


def test_a_snapshot_whose_pieces_come_is_not_asked_again() -> None:
    subscriber = active({RED: 1})
    ask = asked(subscriber.push(push(RED, 3), 0.0))
    for second in range(1, 60):
        subscriber.piece_came(ask.number, float(second))
        assert subscriber.tick(second + 0.5) == []
    assert asked(subscriber.tick(200.0)).number != ask.number
