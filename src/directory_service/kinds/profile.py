# SPDX-License-Identifier: Apache-2.0
"""Profiles: parameters of tunnels."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from directory_client.kinds import profile
from directory_client.toml.strict_toml import Table
from directory_service.kinds.kind import Kind, Values, World
from directory_service.kinds.reading import without
from directory_service.kinds.records import Record
from directory_service.kinds.sections import Tables

PROTOCOLS = ("vxlan", "gre", "nvgre", "esp")
UDP_PORTS = {"vxlan": 4789, "esp": 4500}


@dataclass(frozen=True, slots=True)
class Profile:
    record: Record | None  # None: the built-in one
    id: int
    name: str
    protocol: str
    udp_port: int
    mtu_bytes: int  # 0: the path's
    ttl: int
    dscp: int
    dscp_copy: bool
    check_inner: bool  # what comes out of a tunnel of a gateway of ours is checked as what others send
    revision: int


BUILT_IN_PROFILE = Profile(None, 0, "built-in", "vxlan", UDP_PORTS["vxlan"], 0, 64, 0, True, False, 0)


def to_profile(record: Record) -> Profile:
    values = record.values
    dscp = values.get("dscp", "copy")
    return Profile(
        record,
        record.id,
        record.name,
        values["protocol"],
        values.get("udp_port", UDP_PORTS.get(values["protocol"], 0)),
        values.get("mtu_bytes", 0),
        values.get("ttl", 64),
        0 if dscp == "copy" else dscp,
        dscp == "copy",
        values.get("check_inner", False),
        record.revision,
    )


def read_profile(table: Table) -> Values:
    """Read [profile.NAME]."""
    protocol = table.string("protocol", choices=PROTOCOLS)
    values: Values = {
        "protocol": protocol,
        "udp_port": table.integer("udp_port", 0, 1, 65535),
        "mtu_bytes": table.integer("mtu_bytes", 0, 576, 65535),
        "ttl": table.integer("ttl", 64, 1, 255),
        "dscp": _read_dscp(table),
        "check_inner": table.boolean("check_inner", False),
        "cipher": table.string("cipher", "", choices=("aes-128-gcm", "aes-256-gcm", "chacha20-poly1305")),
        "rekey_s": table.integer("rekey_s", 0, 60, 7 * 86400),
    }
    if "probe" in table:
        probe = table.table("probe")
        values["probe"] = {
            "interval_ms": probe.integer("interval_ms", 1000, 10, 60_000),
            "lost": probe.integer("lost", 3, 1, 100),
        }
        probe.finish()
    if protocol != "esp":
        for key in ("cipher", "rekey_s"):
            if key in table:
                raise table.problem(
                    key, f"a {protocol} profile has no {key}", 'remove it, or protocol = "esp"'
                )
    return without(
        values, udp_port=0, mtu_bytes=0, ttl=64, dscp="copy", check_inner=False, cipher="", rekey_s=0
    )


def _read_dscp(table: Table) -> int | str:
    value = table.raw("dscp") if "dscp" in table else "copy"
    if value == "copy" or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 63):
        return value
    raise table.problem("dscp", f"{value!r} is not possible", '"copy", or a number from 0 to 63')


def _doubts(record: Record, vnet: Mapping[str, Any]) -> Iterator[str]:
    protocol = record.values["protocol"]
    if protocol != "vxlan":
        yield f"profile {record.name}: {protocol} is not carried yet; vxlan is"


def _more(world: World, record: Record) -> Values:
    typed = to_profile(record)
    dscp = "copy" if typed.dscp_copy else typed.dscp
    return {
        "udp_port": typed.udp_port or None,
        "ttl": typed.ttl,
        "dscp": dscp,
        "check_inner": typed.check_inner,
    }


PROFILE = Kind(profile.PROFILE, read_profile, Tables(), to_typed=to_profile, doubts=_doubts, more=_more)
