# SPDX-License-Identifier: Apache-2.0
"""Doubts about addresses and prefixes: what fits, but is not carried yet, or never forwarded.

What is never forwarded is said in directory_client/vocabulary/addresses.
"""

import ipaddress
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from directory_client.vocabulary.addresses import NEVER_FORWARDED
from directory_service.kinds.records import Record


def doubt_prefix(record: Record, prefix: str) -> Iterator[str]:
    """Yield warnings about a prefix that a record has."""
    if ":" in prefix:
        yield f"{record.kind} {record.name}: IPv6 is not carried yet: {prefix}"
        return
    never = NEVER_FORWARDED.get(int(prefix.partition(".")[0]))
    if never is not None:
        yield f"{record.kind} {record.name}: {prefix} is in {never}, which no gateway forwards"


def doubt_address(record: Record, address: str, vnet: Mapping[str, Any]) -> Iterator[str]:
    """Yield warnings about an address that a record has; `vnet` are the values of its V-net."""
    if ":" in address:
        yield f"{record.kind} {record.name}: IPv6 is not carried yet: {address}"
        return
    never = NEVER_FORWARDED.get(int(address.partition(".")[0]))
    if never is not None:
        yield f"{record.kind} {record.name}: {address} is in {never}, which no gateway forwards"
        return
    if not address.endswith((".0", ".255")) and all(_is_short(text) for text in vnet.get("prefixes", ())):
        return
    for text in vnet.get("prefixes", ()):
        network = ipaddress.ip_network(text)
        if network.version == 4 and network.prefixlen < 31:
            ends = {network.network_address: "network", network.broadcast_address: "broadcast"}
            word = ends.get(ipaddress.IPv4Address(address))
            if word is not None:
                end = f"the {word} address of {text}: hosts refuse it"
                yield f"{record.kind} {record.name}: {address} is {end}"


@lru_cache(maxsize=4096)
def _is_short(prefix: str) -> bool:
    """Tell whether only addresses that end in .0 or .255 can be a prefix's first and last."""
    return int(prefix.rpartition("/")[2]) <= 24
