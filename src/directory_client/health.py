# SPDX-License-Identifier: Apache-2.0
"""What a client knows of the health of its directory servers."""

from __future__ import annotations

from dataclasses import dataclass

from directory_client.approach import Stage
from directory_client.connection import Connection
from directory_client.realm import format_realm
from directory_client.wire.greeting import Notice

LATE_US = 50_000
REFUSAL_S = 5.0  # heartbeats are refused every second: what was said longer ago is no longer the reason


@dataclass(frozen=True, slots=True)
class ServerHealth:
    """One directory server (a row of `show directories`)."""

    endpoint: str
    name: str  # as it says itself, "" while unknown
    state: str  # "up", "late", "down", "unknown", "refused"
    active: bool
    rtt_us: int | None  # last heartbeat or answer
    revision: int
    incarnation: int
    silent_s: float | None  # since its last answer
    failures: int
    realm: int  # 0: it has not said
    era: int
    era_began: str  # why, empty for the first era of a realm
    refused: str  # why it is not listened to: "realm" (another one), "store" (another one of this realm)
    problem: str = ""  # why it does not serve us, or does not answer, as far as that is known
    fix: str = ""
    notices: tuple[Notice, ...] = ()  # what it tells a gateway that it serves
    features: frozenset[str] = frozenset()  # what it can, as far as it has said
    key: str = ""  # its public key, as it has proved; empty on ipc


def health_of(server: Connection, active: bool, now: float) -> ServerHealth:
    """Describe a server as it stands now."""
    state = "unknown" if server.up is None else "up" if server.up else "down"
    if server.refused:
        state = "refused"
    if state == "up" and server.rtt_us is not None and server.rtt_us > LATE_US:
        state = "late"
    heard = server.heard_at is not None and now - server.heard_at < REFUSAL_S
    refusal = server.refusal if heard and state in ("down", "unknown") else None
    if refusal is not None or (not server.up and server.approach.stage is Stage.KEY_REFUSED):
        state = "refused"
    obstacle, remedy = ("", "") if refusal else server.obstacle
    return ServerHealth(
        endpoint=server.endpoint.name,
        name=server.name,
        state=state,
        active=active,
        rtt_us=server.rtt_us,
        revision=server.revision,
        incarnation=server.incarnation,
        silent_s=None if server.heard_at is None else now - server.heard_at,
        failures=server.failures,
        realm=server.realm,
        era=server.era,
        era_began=server.era_began,
        refused=server.refused,
        problem=_apart(server) or (refusal.text if refusal else obstacle),
        fix=_REMEDIES.get(server.refused, "") or (refusal.fix if refusal else remedy),
        notices=server.notices if state in ("up", "late") else (),
        features=server.features,
        key=server.server_key,
    )


def _apart(server: Connection) -> str:
    """Say why a server is not listened to; empty if it is."""
    match server.refused:
        case "realm":
            return f"it serves realm {format_realm(server.realm)}, which is not this gateway's"
        case "store":
            return "it keeps another store of this realm than the directory in use: one of them is a copy"
        case _:
            return ""


_REMEDIES = {
    "realm": "start it on the right store, or, if this gateway is meant to change worlds,"
    " vnet-gateway realm gateway.toml --forget",
    "store": "stop one of the two directories",
}
