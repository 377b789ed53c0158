# SPDX-License-Identifier: Apache-2.0
"""Client and server of the directory over real sockets: answers, pushes, restarts, fail-over."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import msgpack
import pytest
import zmq

from directory_client.endpoint import parse_endpoint
from directory_client.events import Answered, Asked, Changed, Failed, Resolved, ServerChanged, Snapshot
from directory_client.subscriber import State
from directory_client.wire.messages import NODE_PREFIX, DirectoryError, encode
from directory_house import active, ipc, queries
from directory_service.server import listeners

# ---- ipc -------------------------------------------------------------------------------------


def test_a_batch_is_resolved_in_order(house):
    house.serve(ipc(house))
    client = house.client(ipc(house), node="gw1", role="slow-path")
    resolved = house.event(client, Resolved, client.send_resolve(queries(*range(900))))
    assert resolved.decisions["rule_id"].tolist() == list(range(900))
    assert len(resolved.locations) == 1


def test_quiet_moments_are_used_to_learn_and_a_failure_there_ends_nothing(house):
    house.directory.to_learn = 20
    house.serve(ipc(house))
    house.until(lambda: house.directory.to_learn == 10)
    house.directory.error = RuntimeError("cannot be learned")
    house.until(lambda: house.directory.to_learn == 0)
    house.directory.error = None
    client = house.client(ipc(house), node="gw1", role="slow-path")
    assert len(house.event(client, Resolved, client.send_resolve(queries(1))).decisions) == 1


def test_sockets_are_for_the_group_only(house):
    house.serve(ipc(house))
    assert (house.path / "run").stat().st_mode & 0o777 == 0o750
    for name in ("resolve", "write", "push"):
        assert (house.path / "run" / f"directory-{name}.sock").stat().st_mode & 0o777 == 0o660


def test_a_second_server_does_not_take_the_sockets_away(house):
    house.serve(ipc(house))
    with pytest.raises(DirectoryError, match="another directory serves"):
        house.serve(ipc(house))
    client = house.client(ipc(house), node="gw1")
    assert house.event(client, Resolved, client.send_resolve(queries(1)))


def test_a_question_asked_before_the_server_is_there_is_answered_once_it_is(house):
    client = house.client(ipc(house), node="gw1", give_up_s=5.0)
    id = client.send_resolve(queries(1))
    house.turn()
    house.serve(ipc(house))
    assert house.event(client, Resolved, id)


def test_a_question_that_waited_for_its_server_is_not_late(house):
    client = house.client(ipc(house), node="gw1", give_up_s=5.0)
    id = client.send_resolve(queries(1))
    asked_at = time.monotonic()
    house.until(lambda: time.monotonic() - asked_at > 0.15)
    server = house.serve(ipc(house), late_ms=100)
    assert house.event(client, Resolved, id)
    assert server._counters["busy"] == 0


def test_a_question_that_nobody_answers_fails_with_code_3(house):
    client = house.client(ipc(house), node="gw1", give_up_s=0.2)
    failed = house.event(client, Failed, client.send_resolve(queries(1)))
    assert failed.code == 3
    assert ipc(house) in failed.error


def test_what_no_server_takes_is_refused_by_name_before_it_is_sent(house):
    house.serve(ipc(house))
    client = house.client(ipc(house), node="gw1")
    with pytest.raises(DirectoryError, match="more than TEXT_BYTES_MAX, 16777216"):
        client.send("apply", text="#" * (16 << 20), name="large.toml", user="me")
    assert house.event(client, Resolved, client.send_resolve(queries(1)))  # the connection lives


def test_a_refusal_carries_sentence_and_remedy(house):
    house.serve(ipc(house))
    client = house.client(ipc(house), node="nobody")
    failed = house.event(client, Failed, client.send_resolve(queries(1)))
    assert (failed.error, failed.fix, failed.code) == ("there is no node nobody", "vnetctl show nodes", 1)


def test_pushes_follow_the_snapshot_in_order_without_loss(house):
    house.serve(ipc(house))
    client = house.client(ipc(house), node="gw1", role="slow-path")
    client.subscribe()
    for _ in range(50):  # changes go on while the client comes up
        house.directory.change((1001, 7001), (1002, 7001))
        house.turn()
    snapshot = house.event(client, Snapshot)
    last = house.directory.change((1001, 7002))
    for _ in range(500):
        last = house.directory.change((1001, 7001))
    house.until(lambda: client.subscriber.revision >= last)
    seen = [event.revision for event in house.events[client] if isinstance(event, Changed)]
    assert seen[-1] == last
    assert seen == sorted(seen)
    assert seen[0] == snapshot.revision + 1
    assert len(seen) == last - snapshot.revision  # every one of them
    assert client.subscriber.resyncs == {}


def test_a_restarted_server_is_followed_again_without_being_told(house):
    server = house.serve(ipc(house))
    client = house.client(ipc(house), node="gw1", role="slow-path", timeout_s=0.1)
    active(house, client)
    house.stop(server)
    house.directory.change((1001, 7001))
    house.directory.pushes.clear()  # what happened meanwhile is never pushed
    house.directory.vnets[7001] = [{"op": "vnet", "vni": 7001, "n": 42}]
    house.serve(ipc(house))
    snapshot = house.event(client, Snapshot)
    assert snapshot.vnets == [(7001, [{"op": "vnet", "vni": 7001, "n": 42}])]
    house.until(lambda: client.subscriber.state is State.ACTIVE)
    revision = house.directory.change((1001, 7001))
    assert house.event(client, Changed).revision == revision


def test_a_forged_gap_makes_the_client_ask_again(house):
    server = house.serve(ipc(house))
    client = house.client(ipc(house), node="gw1", role="slow-path")
    active(house, client)
    server._dispatcher.publisher._seq.setdefault(1001, {})[7001] = 10  # ten pushes are lost
    house.directory.change((1001, 7001))
    assert house.event(client, Snapshot)
    assert client.subscriber.resyncs == {"gap": 1}


def test_what_was_applied_is_reported_at_once(house):
    server = house.serve(ipc(house))
    client = house.client(ipc(house), node="gw1", role="slow-path")
    gateways = server._dispatcher.gateways
    client.applied(active(house, client).revision)
    house.until(lambda: gateways.revision("gw1", time.monotonic()))
    revision = house.directory.change((1001, 7001))
    changed = house.event(client, Changed)
    assert gateways.revision("gw1", time.monotonic()) < revision
    client.applied(changed.revision)
    started = time.monotonic()
    house.until(lambda: gateways.revision("gw1", time.monotonic()) == revision)
    assert time.monotonic() - started < 0.9  # not with the next regular heartbeat


def test_locators_are_said_by_heartbeats(house):
    house.serve(ipc(house))
    client = house.client(ipc(house), node="gw1", role="slow-path")
    client.set_heartbeat(locators=["192.0.2.1"], ports=["rack"], load={"misses": 3})
    house.until(lambda: ("gw1", ["192.0.2.1"], ["rack"]) in house.directory.announced)


def test_a_control_is_asked_and_its_answer_forwarded(house):
    house.serve(ipc(house))
    control = house.client(ipc(house), node="gw1", role="control")
    control.serve()
    tool = house.client(ipc(house))
    house.until(lambda: "gw1" in house.servers[0]._dispatcher.gateways.with_control(time.monotonic()))
    id = tool.send("forward", node="all", request={"verb": "show", "noun": "ports"})
    asked = house.event(control, Asked)
    assert asked.request == {"verb": "show", "noun": "ports"}
    control.answer(asked, {"ok": True, "rows": [{"port": "rack"}]})
    head = house.event(tool, Answered, id).head
    assert head["answers"] == [{"node": "gw1", "answer": {"ok": True, "rows": [{"port": "rack"}]}}]
    assert head["silent"] == ["gw2"]


def test_an_answer_that_cannot_be_packed_is_answered_with_an_error(house):
    house.serve(ipc(house))
    control = house.client(ipc(house), node="gw1", role="control")
    control.serve()
    tool = house.client(ipc(house))
    house.until(lambda: "gw1" in house.servers[0]._dispatcher.gateways.with_control(time.monotonic()))
    id = tool.send("forward", node="gw1", request={"verb": "show"})
    control.answer(house.event(control, Asked), {"ok": True, "rows": [object()]})
    (row,) = house.event(tool, Answered, id).head["answers"]
    assert row["answer"]["ok"] is False
    assert "cannot be sent" in row["answer"]["error"]


def test_a_client_goes_on_with_the_next_server(house):
    first = house.serve(ipc(house, "one"))
    house.serve(ipc(house, "two"))
    client = house.client(ipc(house, "one"), ipc(house, "two"), node="gw1", role="slow-path", timeout_s=0.05)
    active(house, client)
    house.stop(first)
    resolved = house.event(client, Resolved, client.send_resolve(queries(1, 2)))
    assert resolved.decisions["rule_id"].tolist() == [1, 2]
    house.until(lambda: client.subscriber.state is State.ACTIVE)
    assert [server.active for server in client.servers()] == [False, True]
    assert client.servers()[1].state == "up"
    revision = house.directory.change((1001, 7001))
    house.until(lambda: client.subscriber.revision == revision)


def test_a_server_that_never_answers_is_passed_over(house):
    mute = zmq.Context()
    try:
        sockets = [mute.socket(kind) for kind in (zmq.ROUTER, zmq.ROUTER, zmq.XPUB)]
        (house.path / "mute").mkdir()
        endpoint = parse_endpoint(ipc(house, "mute"))
        for each, address in zip(sockets, (endpoint.resolve, endpoint.write, endpoint.push), strict=True):
            each.bind(address)
        house.serve(ipc(house, "two"))
        client = house.client(
            ipc(house, "mute"), ipc(house, "two"), node="gw1", timeout_s=0.05, give_up_s=5.0
        )
        assert house.event(client, Resolved, client.send_resolve(queries(1)))
        assert house.until(lambda: [server.active for server in client.servers()] == [False, True])
    finally:
        mute.destroy(0)


def test_a_busy_answer_is_asked_again(house):
    context = zmq.Context()
    try:
        (house.path / "run").mkdir()
        endpoint = parse_endpoint(ipc(house))
        router = context.socket(zmq.ROUTER)
        router.bind(endpoint.resolve)
        client = house.client(ipc(house), give_up_s=5.0)
        id = client.send_resolve(queries(1))
        answered = 0

        def serve() -> bool:
            nonlocal answered
            if router.poll(1):
                connection, head, _ = router.recv_multipart()
                answered += 1
                busy = {"id": msgpack.unpackb(head)["id"], "ok": False, "busy": True, "retry_ms": 5}
                good = {"id": busy["id"], "ok": True, "incarnation": 1, "revision": 2}
                parts = [b"", b"", b"", b"", msgpack.packb([])] if answered == 3 else []
                router.send_multipart([connection, *encode(good if parts else busy, *parts)])
            return any(isinstance(e, Resolved) and e.id == id for e in house.events[client])

        house.until(serve)
        assert answered == 3
    finally:
        context.destroy(0)


def test_an_answer_that_a_pushed_fact_overtook_is_asked_again(house):
    context = zmq.Context()
    try:
        (house.path / "run").mkdir()
        router = context.socket(zmq.ROUTER)
        router.bind(parse_endpoint(ipc(house)).resolve)
        client = house.client(ipc(house), node="gw1", give_up_s=5.0)
        client.subscribe()
        client.subscriber.epoch, client.subscriber.facts = 5, 8
        id = client.send_resolve(queries(1))
        answered = 0

        def serve() -> bool:
            nonlocal answered
            if router.poll(1):
                connection, head, *_ = router.recv_multipart()
                asked = msgpack.unpackb(head)
                if asked["type"] == "resolve":
                    answered += 1
                    answer = {"id": asked["id"], "ok": True, "incarnation": 1, "revision": 2}
                    order = {"epoch": 5, "facts": 7 if answered == 1 else 8}
                    parts = [b"", b"", b"", b"", msgpack.packb([])]
                    router.send_multipart([connection, *encode({**answer, **order}, *parts)])
            return any(isinstance(e, Resolved) and e.id == id for e in house.events[client])

        house.until(serve)
        assert (answered, client.overtaken) == (2, 1)
    finally:
        context.destroy(0)


def test_servers_that_come_and_go_are_reported(house):
    server = house.serve(ipc(house))
    client = house.client(ipc(house), node="gw1")
    up = house.event(client, ServerChanged)
    assert (up.up, up.active) == (True, ipc(house))
    house.stop(server)
    down = house.event(client, ServerChanged)
    assert (down.up, down.active) == (False, None)


def test_a_worker_reports_changes_that_are_other_workers_without_being_told(house):
    server = house.serve(ipc(house))
    client = house.client(ipc(house), node="gw1", role="slow-path", worker=1, workers=2)
    client.subscribe(lambda vni: vni % 2 == 1)
    client.applied(house.event(client, Snapshot).revision)
    gateways = server._dispatcher.gateways
    others = house.directory.change((1001, 7002))
    house.until(lambda: gateways.lacking("gw1", others) == ["slow-path-0"])
    assert not any(isinstance(event, Changed) for event in house.events[client])
    mine = house.directory.change((1001, 7001))
    house.directory.change((1001, 7002))
    house.event(client, Changed)
    for _ in range(20):
        house.turn()
    assert gateways.lacking("gw1", mine) == ["slow-path-0", "slow-path-1"]  # until it says that it has it


@pytest.mark.parametrize(("type", "more", "times"), [("list", {}, 2), ("set", {"values": {}}, 1)])
def test_only_what_changes_nothing_is_asked_again(house, type, more, times):
    context = zmq.Context()
    try:
        (house.path / "run").mkdir()
        router = context.socket(zmq.ROUTER)
        router.bind(parse_endpoint(ipc(house)).write)
        client = house.client(ipc(house))
        id = client.send(type, kind="rule", name="red/x", timeout_s=3.0, **more)
        heard = 0

        def listen() -> bool:
            nonlocal heard
            if router.poll(1):
                connection, head = router.recv_multipart()
                heard += 1
                if heard == 2:  # the first one is lost with the connection
                    router.send_multipart(
                        [connection, *encode({"id": msgpack.unpackb(head)["id"], "ok": True})]
                    )
            return any(getattr(event, "id", None) == id for event in house.events[client])

        house.until(listen)
        assert heard == times
        assert isinstance(house.event(client, Answered | Failed, id), Answered if times == 2 else Failed)
    finally:
        context.destroy(0)


def test_a_second_gateway_of_a_name_has_no_answer_until_the_first_says_goodbye(house):
    house.serve(ipc(house))
    first = house.client(ipc(house), node="gw1", role="slow-path", instance="first")
    active(house, first)
    house.until(lambda: first.servers()[0].name)  # its first heartbeat was answered
    second = house.client(ipc(house), node="gw1", role="slow-path", instance="second")
    second.subscribe()
    house.until(lambda: second.servers()[0].state == "refused")
    assert "a gateway called gw1 is there already" in second.servers()[0].problem
    assert second.servers()[0].fix
    house.until(
        lambda: any(
            (event.up, event.active, event.why) == (False, None, second.servers()[0].problem)
            for event in house.events[second]
            if isinstance(event, ServerChanged)
        )
    )
    house.until(lambda: [n.why for n in first.servers()[0].notices] == ["second"])
    assert not any(isinstance(event, Snapshot) for event in house.events[second])
    first.goodbye()
    house.clients.remove(first)
    first.close()
    house.event(second, Snapshot)
    assert second.servers()[0].problem == ""


def test_a_client_that_nobody_has_polled_for_long_can_be_closed(house, monkeypatch):
    monkeypatch.setattr("directory_client.connection.RECONNECT_MS", 1)
    monkeypatch.setattr("directory_client.connection.RECONNECT_MAX_MS", {True: 1, False: 1})
    (house.path / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(house.path / "run" / "directory-resolve.sock"))
        listener.listen()
        listener.settimeout(2.0)
        client = house.client(ipc(house), node="gw1")
        house.clients.clear()
        # Each connection that ends at once is some events; when there are more than libzmq keeps, its thread
        # waits for room, and connects no more.
        with contextlib.suppress(TimeoutError):
            while True:
                listener.accept()[0].close()
    closing = threading.Thread(target=client._servers.all[0].close, daemon=True)
    closing.start()
    closing.join(20.0)
    assert not closing.is_alive()


def test_a_push_that_finds_no_room_is_counted_and_others_hear_it(house, monkeypatch):
    monkeypatch.setattr(listeners, "HIGH_WATER", 50)
    server = house.serve(ipc(house))
    client = house.client(ipc(house), node="gw1", role="slow-path")
    active(house, client)
    context = zmq.Context()
    try:
        stopped = context.socket(zmq.SUB)  # hears the same and reads nothing
        stopped.setsockopt(zmq.RCVHWM, 1)
        stopped.setsockopt(zmq.SUBSCRIBE, NODE_PREFIX.pack(1001))
        stopped.connect(parse_endpoint(ipc(house)).push)
        house.until(lambda: stopped.poll(0))
        revision = 0

        def is_full() -> bool:
            nonlocal revision
            revision = house.directory.change((1001, 7001))
            house.until(lambda: any(getattr(e, "revision", 0) == revision for e in house.events[client]))
            house.events[client].clear()
            return server._counters["pushes_lost"] > 0

        house.until(is_full, 60.0)
        assert client.subscriber.resyncs == {}  # it has missed nothing
    finally:
        context.destroy(0)
