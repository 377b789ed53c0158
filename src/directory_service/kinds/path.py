# SPDX-License-Identifier: Apache-2.0
"""Paths: how two sites reach each other."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from directory_client.kinds import path
from directory_client.toml.strict_toml import Table
from directory_client.vocabulary.names import check_name
from directory_service.kinds.kind import Kind, Reference, Values, World
from directory_service.kinds.reading import check_in, without
from directory_service.kinds.records import Record
from directory_service.kinds.sections import Tables

TRUST = ("internet", "carrier", "own")  # rising


@dataclass(frozen=True, slots=True)
class Path:
    record: Record
    name: str
    sites: frozenset[str]
    trust: int  # index in TRUST
    mtu_bytes: int
    nat: bool
    profile: str


def to_path(record: Record) -> Path:
    values = record.values
    return Path(
        record,
        record.name,
        frozenset(values["sites"]),
        TRUST.index(values["trust"]),
        values.get("mtu_bytes", 1500),
        values.get("nat", False),
        values.get("profile", ""),
    )


def read_path(table: Table) -> Values:
    """Read [path.NAME]: two sites (twice the same: inside a site)."""
    sites = table.raw("sites")
    if not isinstance(sites, list) or len(sites) != 2 or not all(isinstance(site, str) for site in sites):
        raise table.problem("sites", "needs two names", 'sites = ["ams1", "ber1"]')
    for site in sites:
        check_in(table, "sites", site, check_name)
    return without(
        {
            "sites": list(sites),
            "trust": table.string("trust", choices=TRUST),
            "mtu_bytes": table.integer("mtu_bytes", 1500, 576, 65535),
            "nat": table.boolean("nat", False),
            "profile": table.string("profile", "", check=check_name),
        },
        mtu_bytes=1500,
        nat=False,
        profile="",
    )


def _references(record: Record) -> Iterator[Reference]:
    values = record.values
    for site in values["sites"]:
        yield Reference("sites", "site", site)
    if values.get("profile"):
        yield Reference("profile", "profile", values["profile"])


def _describe(values: Mapping[str, Any]) -> str:
    return f"{values['sites'][0]} – {values['sites'][1]}  trust {values['trust']}"


def _more(world: World, record: Record) -> Values:
    typed = to_path(record)
    return {"mtu_bytes": typed.mtu_bytes, "nat": typed.nat}


PATH = Kind(
    path.PATH,
    read_path,
    Tables(),
    to_typed=to_path,
    references=_references,
    describe=_describe,
    more=_more,
)
