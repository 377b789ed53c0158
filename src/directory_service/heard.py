# SPDX-License-Identifier: Apache-2.0
"""What gateways say of themselves and where they see endpoints, and what of it nobody has taken up yet.

No sockets, no threads: one thread calls. Facts, not records: see model/presences.py and model/sightings.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from typing import NamedTuple

from directory_client.vocabulary.numbers import IngressKind, KeyClass
from directory_client.wire.rows import Rows
from directory_service.facts.contract import Facts
from directory_service.model.fabric import Presence
from directory_service.model.presences import Presences
from directory_service.model.sightings import Sightings
from directory_service.model.snapshot import Snapshot
from directory_service.model.vnet import VnetState
from directory_service.settings import Settings
from directory_service.views.steps import Said

FLUSH_S = 1.0


class News(NamedTuple):
    """What is another one since a serial: of gateways (None: forgotten), and all sightings (None: the
    same)."""

    serial: int
    presences: Mapping[str, Presence | None]
    sightings: Mapping[str, Mapping[str, str]] | None

    @property
    def is_any(self) -> bool:
        """Whether there is something."""
        return bool(self.presences) or self.sightings is not None


class Heard:
    """See the module. `node_s`: a gateway that is silent for longer loses locators that another says it
    has."""

    def __init__(self, facts: Facts, node_s: float, settings: Settings, now_s: float) -> None:
        self._facts = facts
        self.presences = Presences(facts, node_s, now_s)
        self.sightings = Sightings(facts, settings.lifetime_s, settings.stale_max_s, now_s)
        self._serial = 1
        self._said_at: dict[str, int] = {}  # node → serial of its newest change
        self._seen_at = 1  # the same of sightings
        self._flush_at_s = now_s
        self.said_news: set[str] = set()  # gateways that say what no step has taken up
        self._has_sightings = False  # that no step has taken up

    @property
    def first(self) -> Said:
        """All that is known to begin with."""
        held = self.presences.held
        return Said(held, self._serial, frozenset(held), self.sightings.held)

    @property
    def has_news(self) -> bool:
        """Whether there is something that nobody has taken up yet."""
        return bool(self.said_news) or self._has_sightings

    def take(self, settings: Settings, node_s: float) -> None:
        """Take other settings."""
        self.presences.wait_for_silent(node_s)
        self.sightings.take(settings.lifetime_s, settings.stale_max_s)

    def see(self, snapshot: Snapshot, node: str, queries: Rows, now_s: float) -> None:
        """Take note of where sources of a node's questions are, of those that may be in several places."""
        vnis = queries["vni"]
        alike = len(vnis) and (vnis == vnis[0]).all()  # as a rule
        for vni in vnis[:1].tolist() if alike else set(vnis.tolist()):
            state = snapshot.by_vni.get(vni)
            if state is not None and state.roamers:
                self._see(state, node, queries if alike else queries[vnis == vni], now_s)

    def _see(self, state: VnetState, node: str, queries: Rows, now_s: float) -> None:
        queries = queries[queries["ingress_kind"] == IngressKind.ATTACHMENT]
        of_macs = (queries["key_class"] == KeyClass.MAC).tolist()
        sources = [source.tobytes() for source in queries["source"]]
        macs = [mac.tobytes() for mac in queries["source_mac_end"]]
        ingresses = queries["ingress_object"].tolist()
        for of_mac, source, mac, ingress in zip(of_macs, sources, macs, ingresses, strict=True):
            name = state.roamers.get((of_mac, source))
            attachment = state.attachments_by_id.get(ingress)
            if name is None or attachment is None or attachment.place.node != node:
                continue
            member, sent = state.members[name], any(mac)
            if ingress not in member.attachments or (sent and member.endpoint.mac[-len(mac) :] != mac):
                continue
            vnet, place = member.endpoint.record.vnet, str(attachment.place)
            self._has_sightings |= self.sightings.see(vnet, name, place, now_s, sent)

    def settle(self, now_s: float, is_silent: Callable[[str], bool]) -> set[str]:
        """Once a second: forget what is over, keep what has to be kept. Returns the gateways that are
        forgotten."""
        if now_s < self._flush_at_s:
            return set()
        self._flush_at_s = now_s + FLUSH_S
        gone = self.presences.expire(now_s)
        self._has_sightings |= bool(self.sightings.settle(now_s, is_silent))
        self._facts.flush()
        return gone

    def take_news(self) -> Said | None:
        """Return what nobody has taken up yet, and take it to be taken up."""
        if not self.has_news:
            return None
        news, self.said_news = frozenset(self.said_news), set()
        sightings = self.sightings.held if self._has_sightings else None
        self._has_sightings = False
        return Said(self.presences.held, self._serial + 1, news, sightings)

    def give_back(self, said: Said) -> None:
        """What was taken has come to nothing."""
        self.said_news |= said.changed
        self._has_sightings |= said.sightings is not None

    def install(self, said: Said) -> None:
        """It stands in what answers are given from: let others know whose news they lack."""
        self._serial = said.serial
        self._said_at |= dict.fromkeys(said.changed, said.serial)
        if said.sightings is not None:
            self._seen_at = said.serial

    def since(self, serial: int) -> News:
        """Return what changed since another serial, 0: all."""
        held = self.presences.held
        names: Set[str] = held.keys() if serial == 0 else self._said_since(serial)
        seen = self.sightings.held if self._seen_at > serial else None
        return News(self._serial, {name: held.get(name) for name in names}, seen)

    def _said_since(self, serial: int) -> set[str]:
        return {name for name, at in self._said_at.items() if at > serial} if serial < self._serial else set()
