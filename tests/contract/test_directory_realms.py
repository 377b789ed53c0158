# SPDX-License-Identifier: Apache-2.0
"""A gateway listens to its own realm only, to one store of it, and goes back to the server it prefers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from directory_client import client as client_module
from directory_client.client import DirectoryClient
from directory_client.events import Failed, Resolved, Snapshot
from directory_client.realm import RealmPin, Version
from directory_client.servers import RETURN_S
from directory_house import House, house, ipc, queries
from directory_service.store.contract import World
from fake_directory import FakeDirectory

__all__ = ["house"]


class SteppedClock:
    """A monotonic clock that a test can put ahead."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return client_module.time.monotonic() + self.ahead_s


def of(realm: int, era: int = 1, store: int = 70) -> FakeDirectory:
    made = FakeDirectory()
    made.world = World(realm, era, realm * 10 + era)
    made.store_id = store
    return made


def state_of(client: DirectoryClient, number: int) -> str:
    return client.servers()[number].state


def settled(house: House, client: DirectoryClient, number: int, state: str) -> Callable[[], bool]:
    return lambda: state_of(client, number) == state


def test_the_first_realm_is_kept_and_another_one_is_no_answer(house: House, tmp_path: Path) -> None:
    pin = tmp_path / "state" / "realm"
    first = house.serve(ipc(house), of(7))
    client = house.client(ipc(house), node="gw1", pin=RealmPin(pin))
    client.subscribe()
    house.event(client, Snapshot)
    house.stop(first)
    again = house.client(ipc(house), node="gw1", pin=RealmPin(pin), give_up_s=0.5)
    house.serve(ipc(house), of(8))
    for one in (client, again):
        house.until(settled(house, one, 0, "refused"))
        assert one.servers()[0].refused == "realm"
        assert one.servers()[0].problem == "it serves realm 0000000000000008, which is not this gateway's"
        assert "vnet-gateway realm" in one.servers()[0].fix
        assert house.event(one, Failed, one.send_resolve(queries(1))).code == 3
        assert not [event for event in house.events[one] if isinstance(event, Snapshot)]
    assert RealmPin(pin).realm == 7


def test_a_server_of_the_realm_is_used_beside_one_of_another(house: House) -> None:
    house.serve(ipc(house, "other"), of(8))
    house.serve(ipc(house, "own"), of(7))
    pin = RealmPin()
    pin.pin(7)
    client = house.client(ipc(house, "other"), ipc(house, "own"), node="gw1", pin=pin, give_up_s=5.0)
    assert house.event(client, Resolved, client.send_resolve(queries(1))).incarnation == 71
    assert client.servers()[1].active


def test_two_stores_of_one_realm_are_not_used_side_by_side(house: House) -> None:
    house.serve(ipc(house, "a"), of(7, store=70))
    house.serve(ipc(house, "b"), of(7, store=71))
    client = house.client(ipc(house, "a"), ipc(house, "b"), node="gw1")
    house.until(lambda: {state_of(client, 0), state_of(client, 1)} == {"up", "refused"})
    refused = next(one for one in client.servers() if one.state == "refused")
    assert refused.refused == "store"
    assert "one of them is a copy" in refused.problem
    assert not refused.active


def test_a_new_era_of_another_store_is_taken(house: House) -> None:
    old = house.serve(ipc(house, "a"), of(7, store=70))
    client = house.client(ipc(house, "a"), ipc(house, "b"), node="gw1", give_up_s=5.0)
    client.subscribe()
    house.event(client, Snapshot)
    house.stop(old)
    house.serve(ipc(house, "b"), of(7, era=2, store=71))
    house.until(lambda: client.servers()[1].active and client.servers()[1].state == "up")
    assert house.event(client, Snapshot).incarnation == 72


def test_the_server_that_is_preferred_is_used_again_once_it_was_well_for_a_while(house: House) -> None:
    clock = SteppedClock()
    first = house.serve(ipc(house, "a"))
    house.serve(ipc(house, "b"))
    client = house.client(ipc(house, "a"), ipc(house, "b"), node="gw1", clock=clock, give_up_s=5.0)
    house.until(lambda: client.servers()[0].state == client.servers()[1].state == "up")
    house.stop(first)
    house.event(client, Resolved, client.send_resolve(queries(1)))
    assert client.servers()[1].active
    house.serve(ipc(house, "a"))
    house.until(settled(house, client, 0, "up"))
    assert client.servers()[1].active
    for _ in range(int(RETURN_S)):  # in steps: nobody is silent meanwhile
        clock.ahead_s += 1.0
        house.until(lambda: all(one.silent_s is not None and one.silent_s < 0.5 for one in client.servers()))
    house.until(lambda: client.servers()[0].active)


def test_the_newest_version_seen_is_shown_with_its_seal(house: House) -> None:
    directory = of(7)
    house.serve(ipc(house), directory)
    client = house.client(ipc(house), node="gw1")
    house.until(lambda: directory.heard)
    assert directory.heard[-1] == (1, 71, 41, 1)
    assert client.foreign == 0


def test_what_is_written_down_outlives_the_process(tmp_path: Path) -> None:
    pin = RealmPin(tmp_path / "realm")
    pin.pin(0xABC)
    pin.see(Version(1, 2, 3, 4), now=100.0)
    again = RealmPin(tmp_path / "realm")
    assert (again.realm, again.seen) == (0xABC, (1, 2, 3, 4))
    again.pin(0xDEF)
    assert again.realm == 0xABC
    assert not again.accepts(0xDEF)


def test_a_worker_writes_the_realm_down_and_leaves_versions_to_control(tmp_path: Path) -> None:
    pin = RealmPin(tmp_path / "realm", keeps=False)
    pin.pin(0xABC)
    pin.see(Version(1, 2, 3, 4), now=100.0)
    assert pin.seen == (1, 2, 3, 4)
    again = RealmPin(tmp_path / "realm")
    assert (again.realm, again.seen) == (0xABC, Version())


def test_a_pin_that_cannot_be_read_is_decided_by_the_next_answer(tmp_path: Path) -> None:
    odd = ('{"realm": 7}', '{"realm": "zz", "seen": []}', '{"realm": "00", "seen": [1,2,3,4]}')
    for text in ("", "{", *odd):
        (tmp_path / "realm").write_text(text)
        assert RealmPin(tmp_path / "realm").realm == 0


def test_versions_of_an_older_era_or_revision_are_not_newer() -> None:
    pin = RealmPin()
    for version in (Version(2, 5, 9, 1), Version(2, 5, 8, 1), Version(1, 4, 99, 1)):
        pin.see(version, now=0.0)
        assert pin.seen == (2, 5, 9, 1)
    pin.see(Version(3, 6, 1, 1), now=0.0)
    assert pin.seen.era == 3
