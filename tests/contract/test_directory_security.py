# SPDX-License-Identifier: Apache-2.0
"""The directory and CURVE: who is let in, and what they may."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import replace

import pytest
import zmq

from directory_client.approach import Stage
from directory_client.client import DirectoryClient
from directory_client.endpoint import parse_endpoint
from directory_client.events import Answered, Changed, Failed, Resolved
from directory_client.health import ServerHealth
from directory_client.keys import ClientKeys, KeyPair
from directory_client.subscriber import State
from directory_client.toml.changes import Change, Reloaded
from directory_client.wire.messages import DirectoryError, encode, topic_of
from directory_house import House, active, free_tcp, ipc, queries
from directory_service.configuration import Client
from directory_service.protocol.audit import AuditFile


def pair() -> KeyPair:
    return KeyPair(*zmq.curve_keypair())


@pytest.fixture
def tcp(house: House) -> tuple[str, KeyPair, dict[str, KeyPair]]:
    server = pair()
    keys = {"gw1": pair(), "anna": pair()}
    clients = [Client("gw1", keys["gw1"].public, "gateway"), Client("anna", keys["anna"].public, "operator")]
    listen = free_tcp()
    house.serve(listen, keys=server, clients=clients)
    return listen, server, keys


def test_known_keys_are_served_over_tcp(house, tcp):
    listen, server, keys = tcp
    gateway = house.client(listen, node="gw1", role="slow-path", keys=ClientKeys(keys["gw1"], server.public))
    assert house.event(gateway, Resolved, gateway.send_resolve(queries(1)))
    active(house, gateway)
    revision = house.directory.change((1001, 7001))
    assert house.event(gateway, Changed).revision == revision
    anna = house.client(listen, keys=ClientKeys(keys["anna"], server.public))
    head = house.event(anna, Answered, anna.send("apply", text="x", name="a.toml", wait_ms=0)).head
    assert head["ok"] is True
    assert house.directory.applied[-1]["user"] == "anna"


def test_a_gateway_writes_nothing_and_is_no_other_node_over_tcp(house, tcp):
    listen, server, keys = tcp
    gateway = house.client(listen, node="gw1", keys=ClientKeys(keys["gw1"], server.public))
    failed = house.event(gateway, Failed, gateway.send("apply", text="x", name="a.toml"))
    assert "may not change the directory" in failed.error
    impostor = house.client(listen, node="gw2", keys=ClientKeys(keys["gw1"], server.public))
    failed = house.event(impostor, Failed, impostor.send_resolve(queries(1)))
    assert "may not speak as node gw2" in failed.error
    assert house.directory.applied == []


def test_a_gateway_hears_no_other_nodes_topics(house, tcp):
    listen, server, keys = tcp
    context = zmq.Context()
    try:
        spy = context.socket(zmq.SUB)
        spy.curve_serverkey, spy.curve_publickey, spy.curve_secretkey = (
            server.public,
            keys["gw1"].public,
            keys["gw1"].secret,
        )
        for topic in (b"", topic_of(1002, 7001), (1002).to_bytes(8, "big")):
            spy.subscribe(topic)
        spy.connect(parse_endpoint(listen).push)
        house.until(lambda: house.servers[0]._counters["subscriptions_refused"] == 3)
        spy.subscribe((1001).to_bytes(8, "big"))
        house.until(lambda: spy.poll(0))  # its own heartbeat
        house.directory.change((1002, 7001), (1001, 7001))
        seen: list[bytes] = []

        def listened() -> bool:
            while spy.poll(0):
                seen.append(spy.recv_multipart()[0])
            return topic_of(1001, 7001) in seen

        house.until(listened)
        assert {topic[:8] for topic in seen} == {(1001).to_bytes(8, "big")}
    finally:
        context.destroy(0)


def test_an_unknown_key_is_refused(house, tcp, tmp_path, caplog):
    listen, server, _ = tcp
    audit = house.servers[0]._audit = AuditFile(tmp_path / "audit.jsonl")
    unknown = pair()
    stranger = house.client(listen, node="gw1", keys=ClientKeys(unknown, server.public), give_up_s=0.5)
    id = stranger.send_resolve(queries(1))
    house.until(lambda: house.servers[0]._counters["connections_refused"] > 0)
    assert house.event(stranger, Failed, id).code == 3
    audit.close()
    key = unknown.public.decode()
    (line,) = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert (line["type"], line["ok"], line["address"], line["key"]) == ("connect", False, "127.0.0.1", key)
    (said,) = [one for one in caplog.messages if "is refused" in one]  # however often it tries
    assert said == f"a connection from 127.0.0.1 is refused: no [[client]] has its key {key}"


def test_a_connection_without_curve_is_refused(house, tcp):
    listen, server, keys = tcp
    context = zmq.Context()
    try:
        plain = context.socket(zmq.DEALER)
        plain.setsockopt(zmq.LINGER, 0)
        monitor = plain.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_DISCONNECTED)
        plain.connect(parse_endpoint(listen).resolve)
        plain.setsockopt(zmq.SNDTIMEO, 0)  # it may be refused before this is sent: then it has no connection
        with suppress(zmq.Again):
            plain.send_multipart([*encode({"type": "resolve", "id": 1, "node": "gw1"}), queries(1).tobytes()])
        house.until(lambda: monitor.poll(0))
        assert not plain.poll(0)
        good = house.client(listen, node="gw1", keys=ClientKeys(keys["gw1"], server.public))
        assert house.event(good, Resolved, good.send_resolve(queries(1)))
    finally:
        context.destroy(0)


def test_beside_tcp_whoever_is_on_this_machine_needs_no_key_and_all_others_still_do(house):
    server, gateway = pair(), pair()
    listen = free_tcp()
    clients = [Client("gw1", gateway.public, "gateway")]
    house.serve(listen, keys=server, clients=clients, local=ipc(house))
    here = house.client(ipc(house), node="gw2")
    assert house.event(here, Resolved, here.send_resolve(queries(1)))
    there = house.client(listen, node="gw1", keys=ClientKeys(gateway, server.public))
    assert house.event(there, Resolved, there.send_resolve(queries(2)))
    assert house.event(there, Failed, there.send("apply", text="")).code == 1
    stranger = house.client(listen, node="gw2", keys=ClientKeys(pair(), server.public), give_up_s=0.5)
    assert house.event(stranger, Failed, stranger.send_resolve(queries(3))).code == 3
    context = zmq.Context()
    try:
        plain = context.socket(zmq.DEALER)
        plain.setsockopt(zmq.LINGER, 0)
        monitor = plain.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_DISCONNECTED)
        plain.connect(parse_endpoint(listen).resolve)
        plain.send_multipart([*encode({"type": "resolve", "id": 1, "node": "gw1"}), queries(1).tobytes()])
        house.until(lambda: monitor.poll(0))
        assert not plain.poll(0)
    finally:
        context.destroy(0)


def test_tcp_without_keys_is_one_sentence(house):
    with pytest.raises(DirectoryError, match="needs keys") as raised:
        DirectoryClient(["tcp://127.0.0.1:7460"])
    assert raised.value.code == 2


def test_a_port_that_is_taken_is_one_sentence(house, tcp):
    with pytest.raises(DirectoryError, match="cannot listen on"):
        house.serve(tcp[0], keys=pair())


def reload(house: House, clients: list[Client]) -> None:
    server = house.servers[0]
    server.take(replace(server._configuration, clients=tuple(clients)))


def test_a_key_that_is_gone_is_refused_from_then_on_also_where_it_stands_connected(house, tcp):
    listen, server, keys = tcp
    anna = house.client(listen, keys=ClientKeys(keys["anna"], server.public))
    assert house.event(anna, Answered, anna.send("apply", text="x", name="a.toml", wait_ms=0))

    reload(house, [Client("gw1", keys["gw1"].public, "gateway")])

    failed = house.event(anna, Failed, anna.send("apply", text="y", name="a.toml", wait_ms=0))
    assert "not among the directory's clients" in failed.error
    assert "vnetctl reload" in failed.fix
    assert len(house.directory.applied) == 1


def test_a_gateway_whose_key_is_gone_hears_no_push_and_knows_why(house, tcp):
    listen, server, keys = tcp
    gateway = house.client(listen, node="gw1", role="slow-path", keys=ClientKeys(keys["gw1"], server.public))
    active(house, gateway)
    other = house.client(listen, keys=ClientKeys(keys["anna"], server.public))
    refused_before = house.servers[0]._counters["connections_refused"]

    reload(house, [Client("anna", keys["anna"].public, "operator")])
    house.directory.change((1001, 7001))
    assert house.event(other, Answered, other.send("apply", text="x", name="a.toml", wait_ms=0))

    house.until(lambda: house.servers[0]._counters["connections_refused"] > refused_before)
    assert not any(isinstance(event, Changed) for event in house.events[gateway])
    house.until(lambda: gateway.servers()[0].state == "refused")
    assert "not among the directory's clients" in gateway.servers()[0].problem

    reload(house, [Client("gw1", keys["gw1"].public, "gateway")])
    house.events[gateway].clear()
    house.until(lambda: gateway.servers()[0].state == "up")
    active(house, gateway)
    revision = house.directory.change((1001, 7001))
    house.until(lambda: any(getattr(e, "revision", 0) == revision for e in house.events[gateway]))


def test_a_new_key_is_let_in_and_nobody_else_is_disturbed(house, tcp):
    listen, server, keys = tcp
    gateway = house.client(listen, node="gw1", role="slow-path", keys=ClientKeys(keys["gw1"], server.public))
    active(house, gateway)
    bert = pair()
    now = [Client("gw1", keys["gw1"].public, "gateway"), Client("anna", keys["anna"].public, "operator")]

    reload(house, [*now, Client("bert", bert.public, "operator")])

    new = house.client(listen, keys=ClientKeys(bert, server.public))
    assert house.event(new, Answered, new.send("apply", text="x", name="a.toml", wait_ms=0))
    assert house.directory.applied[-1]["user"] == "bert"
    revision = house.directory.change((1001, 7001))
    house.until(lambda: any(getattr(e, "revision", 0) == revision for e in house.events[gateway]))
    assert house.servers[0]._counters["connections_cut"] == 0


def test_a_role_that_has_changed_holds_for_standing_connections(house, tcp):
    listen, server, keys = tcp
    anna = house.client(listen, keys=ClientKeys(keys["anna"], server.public))
    assert house.event(anna, Answered, anna.send("apply", text="x", name="a.toml", wait_ms=0))

    reload(house, [Client("anna", keys["anna"].public, "gateway")])

    failed = house.event(anna, Failed, anna.send("apply", text="y", name="a.toml", wait_ms=0))
    assert "may not change the directory" in failed.error


def test_only_who_may_write_has_the_directory_read_its_file_again(house, tcp):
    listen, server, keys = tcp
    change = Change("limits.late_ms", "50", "70")
    dispatcher = house.servers[0]._dispatcher
    dispatcher.reload = lambda: Reloaded("directory", "/etc/vnet/directory.toml", [change])
    gateway = house.client(listen, node="gw1", keys=ClientKeys(keys["gw1"], server.public))
    anna = house.client(listen, keys=ClientKeys(keys["anna"], server.public))

    assert "may not" in house.event(gateway, Failed, gateway.send("reload")).error
    head = house.event(anna, Answered, anna.send("reload")).head
    assert head["taken"] == [change.row()]
    assert head["waiting"] == []


def test_a_question_that_waited_over_tcp_is_answered_busy(house):
    server, own = pair(), pair()
    listen = free_tcp()
    served = house.serve(listen, keys=server, clients=[Client("gw1", own.public, "gateway")], late_ms=200)
    gateway = house.client(
        listen, node="gw1", keys=ClientKeys(own, server.public), timeout_s=5.0, give_up_s=9.0
    )
    for _ in range(3):
        assert house.event(gateway, Resolved, gateway.send_resolve(queries(1)))
    assert served._counters["busy"] == 0

    ids = [gateway.send_resolve(queries(number)) for number in range(40)]
    paused_until = time.monotonic() + 0.6
    while time.monotonic() < paused_until:  # the server does nothing
        gateway.receive()
        time.sleep(0.01)
    answered = [house.event(gateway, Resolved, id) for id in ids]
    assert len(answered) == 40  # asked again
    assert served._counters["busy"] >= 40
    before = served._counters["busy"]
    assert house.event(gateway, Resolved, gateway.send_resolve(queries(1)))
    assert served._counters["busy"] == before


def stage(house: House, client: DirectoryClient, wanted: Stage) -> ServerHealth:
    house.until(lambda: client._servers.all[0].approach.stage is wanted)
    return client.servers()[0]


def test_a_refused_key_is_named_with_the_key_and_what_to_do_with_it(house, tcp):
    listen, server, _ = tcp
    own = pair()
    health = stage(
        house, house.client(listen, node="gw1", keys=ClientKeys(own, server.public)), Stage.KEY_REFUSED
    )
    assert health.state == "refused"
    assert health.problem == f"it does not know our key {own.public.decode()}"
    assert "[[client]]" in health.fix


def test_a_key_that_was_refused_is_let_in_once_it_is_known_without_a_restart(house, tcp):
    listen, server, _ = tcp
    own = pair()
    gateway = house.client(listen, node="gw2", role="slow-path", keys=ClientKeys(own, server.public))
    gateway.subscribe()
    stage(house, gateway, Stage.KEY_REFUSED)

    reload(house, [Client("gw2", own.public, "gateway")])

    house.until(lambda: gateway.servers()[0].state == "up")
    assert gateway.servers()[0].problem == ""
    assert house.event(gateway, Resolved, gateway.send_resolve(queries(1)))
    house.until(lambda: gateway.subscriber.state is State.ACTIVE)

    def pushed() -> bool:  # what is pushed before the third connection stands comes with a snapshot
        house.directory.change((1002, 7001))
        return any(isinstance(event, Changed) for event in house.events[gateway])

    house.until(pushed)  # pushes come too, not only answers


def test_the_directory_s_key_being_another_one_is_named(house, tcp):
    listen, _, keys = tcp
    gateway = house.client(listen, node="gw1", keys=ClientKeys(keys["gw1"], pair().public))
    health = stage(house, gateway, Stage.OTHER_KEY)
    assert "directory_public_key" in health.problem
    assert "keygen" in health.fix


def test_a_directory_is_given_another_key_while_its_gateways_accept_both(house, tcp):
    listen, old, keys = tcp
    new, clients = pair(), [Client("gw1", keys["gw1"].public, "gateway")]
    own = ClientKeys(keys["gw1"], old.public, (new.public,))
    gateway = house.client(listen, node="gw1", role="slow-path", keys=own)
    active(house, gateway)
    house.until(lambda: gateway.servers()[0].key == old.public.decode())

    house.stop(house.servers[0])
    house.serve(listen, keys=new, clients=clients)
    house.until(lambda: gateway.servers()[0].key == new.public.decode())
    house.until(lambda: gateway.servers()[0].state == "up")
    house.until(lambda: gateway.subscriber.state is State.ACTIVE)  # subscriptions came along
    revision = house.directory.change((1001, 7001))
    house.until(lambda: any(getattr(e, "revision", 0) == revision for e in house.events[gateway]))

    gateway.accept_server_keys([new.public.decode()])
    revision = house.directory.change((1001, 7001))  # what is proved and stays is not disturbed
    house.until(lambda: any(getattr(e, "revision", 0) == revision for e in house.events[gateway]))
    assert gateway.servers()[0].state == "up"


def test_a_key_that_is_not_accepted_any_more_ends_its_connection(house, tcp):
    listen, old, keys = tcp
    gateway = house.client(listen, node="gw1", keys=ClientKeys(keys["gw1"], old.public))
    house.until(lambda: gateway.servers()[0].state == "up")
    gateway.accept_server_keys([pair().public.decode(), pair().public.decode()])
    problem = "its key is no directory_public_key that we were given"  # told once all were tried
    house.until(lambda: problem in gateway.servers()[0].problem)
    gateway.accept_server_keys([pair().public.decode(), old.public.decode()])
    house.until(lambda: gateway.servers()[0].state == "up")


def test_another_program_that_listens_there_is_named(house, tcp):
    _, server, keys = tcp
    context = zmq.Context()
    try:
        plain = context.socket(zmq.ROUTER)
        listen = free_tcp()
        plain.bind(parse_endpoint(listen).resolve)
        gateway = house.client(listen, node="gw1", keys=ClientKeys(keys["gw1"], server.public))
        health = stage(house, gateway, Stage.NO_DIRECTORY)
        assert "no directory" in health.problem
    finally:
        context.destroy(0)


def test_a_host_where_nobody_listens_is_named_and_is_well_once_somebody_does(house):
    server, own = pair(), pair()
    listen = free_tcp()
    gateway = house.client(listen, node="gw1", keys=ClientKeys(own, server.public))
    health = stage(house, gateway, Stage.NO_LISTENER)
    assert "nobody listens" in health.problem
    assert "systemctl status vnet-directory" in health.fix
    house.serve(listen, keys=server, clients=[Client("gw1", own.public, "gateway")])
    house.until(lambda: gateway.servers()[0].state == "up")
    assert gateway.servers()[0].problem == ""


def test_a_directory_of_this_machine_that_is_not_there_is_named(house):
    gateway = house.client(ipc(house, "none"), node="gw1")
    health = stage(house, gateway, Stage.NO_LISTENER)
    assert health.problem == f"nobody listens in {house.path}/none"


def test_a_tool_is_told_why_before_its_patience_ends(house, tcp):
    listen, server, _ = tcp
    stranger = house.client(listen, keys=ClientKeys(pair(), server.public))
    started = time.monotonic()
    failed = house.event(stranger, Failed, stranger.send("list", kind="sites", timeout_s=60.0))
    assert "does not know our key" in failed.error
    assert "[[client]]" in failed.fix
    assert time.monotonic() - started < 30
