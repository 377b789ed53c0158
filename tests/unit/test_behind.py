# SPDX-License-Identifier: Apache-2.0
"""Gateways are told of routes that lead to a gateway that says nothing any more."""

from __future__ import annotations

from directory_world import DOCUMENT

from directory_service.protocol.behind import Behind
from directory_service.protocol.gateways import Gateways
from whole_directory import WholeDirectory as Directory


class Alive(Gateways):
    """Gateways of which it is said who is alive."""

    def __init__(self, *names: str) -> None:
        self.names = set(names)

    def is_alive(self, node: str, now: float) -> bool:
        return node in self.names

    def may_come(self, node: str, now: float) -> bool:
        return False


def test_a_route_behind_a_silent_gateway_is_named_with_it(directory: Directory) -> None:
    routes = '[vnet.red.route]\n"192.168.0.0/16" = { via = "db-1" }\n"192.168.7.0/24" = { via = "web-1" }\n'
    directory.apply(DOCUMENT.replace("[vnet.red.rule.any]", routes + "[vnet.red.rule.any]"), "topology.toml")
    assert set(directory.current.presences) == {"gw1", "gw2"}
    gateways = Alive("gw1", "gw2")
    behind = Behind(directory, gateways)

    assert behind.notices("gw1", 1.0) == []
    gateways.names.remove("gw2")
    assert behind.notices("gw1", 1.5) == [], "who is silent is looked at once a second"
    (notice,) = behind.notices("gw1", 2.5)
    assert (
        notice.text
        == "route red/192.168.0.0/16 leads to db-1 at gw2, which is silent: nothing may arrive there"
    )
    gateways.names.add("gw2")
    assert behind.notices("gw1", 4.0) == []
