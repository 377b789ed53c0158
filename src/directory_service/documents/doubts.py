# SPDX-License-Identifier: Apache-2.0
"""What one record says that fits, but does not work or is not carried yet: warnings at apply.

No packet from or to an address in NEVER_FORWARDED passes a gateway (`ip_bad_address`).
"""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from directory_service.kinds.records import Record

NEVER_FORWARDED = {
    **dict.fromkeys([0], "0.0.0.0/8"),
    **dict.fromkeys([127], "127.0.0.0/8"),
    **dict.fromkeys(range(224, 256), "224.0.0.0/3"),
}  # by first byte


def find_doubts(record: Record, vnet: Mapping[str, Any]) -> Iterator[str]:
    """Yield warnings about a record; `vnet` are the values of the V-net that it is in, empty if none."""
    values = record.values
    if record.kind == "vnet":
        yield from _of_vnet(record)
    elif record.kind == "endpoint":
        for address in (*values.get("addresses", ()), *values.get("services", ())):
            yield from _of_address(record, address, vnet)
    elif record.kind == "route":
        if record.local_name.endswith("/0"):
            return
        yield from _of_prefix(record, record.local_name)
    elif record.kind == "peering":
        yield f"peering {record.name}: traffic between V-nets is not carried yet, and is dropped"
    elif record.kind == "profile" and values["protocol"] != "vxlan":
        yield f"profile {record.name}: {values['protocol']} is not carried yet; vxlan is"
    elif record.kind == "rule":
        for field, words in (("stateful", "stateful rules are"), ("rate_mbps", "rate limits are")):
            if values.get(field):
                yield f"rule {record.name}: {words} not carried yet: what it matches is dropped"
        if values.get("security") == "encrypted":
            yield f"rule {record.name}: encryption is not carried yet: what it matches is dropped"


def find_doubts_of(
    records: Mapping[str, Record], changes: Iterable[tuple[Record | None, Record | None]]
) -> list[str]:
    """Return the warnings about what changes (before, after) leave in V-nets that do not change."""
    found: list[str] = []
    for _, after in changes:
        if after is not None:
            vnet = records.get("vnet/" + after.vnet)
            found += find_doubts(after, vnet.values if vnet is not None else {})
    return found


def _of_vnet(record: Record) -> Iterator[str]:
    if record.values.get("relays"):
        yield f"vnet {record.name}: relays are not carried yet"
    prefixes = [ipaddress.ip_network(text) for text in record.values.get("prefixes", ())]
    for number, prefix in enumerate(prefixes):
        if prefix.prefixlen == 0:
            yield f"vnet {record.name}: prefix {prefix} is every address, the neighbours' of all sites too"
        else:
            yield from _of_prefix(record, str(prefix))
        for other in prefixes[:number]:
            if prefix.version == other.version and prefix.overlaps(other):
                yield f"vnet {record.name}: prefixes {other} and {prefix} overlap"
    for address in record.values.get("gateway_addresses", ()):
        yield from _of_address(record, address, record.values)


def _of_prefix(record: Record, prefix: str) -> Iterator[str]:
    if ":" in prefix:
        yield f"{record.kind} {record.name}: IPv6 is not carried yet: {prefix}"
        return
    never = NEVER_FORWARDED.get(int(prefix.partition(".")[0]))
    if never is not None:
        yield f"{record.kind} {record.name}: {prefix} is in {never}, which no gateway forwards"


def _of_address(record: Record, address: str, vnet: Mapping[str, Any]) -> Iterator[str]:
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


def _is_short(prefix: str) -> bool:
    """Tell whether only addresses that end in .0 or .255 can be a prefix's first and last."""
    return int(prefix.rpartition("/")[2]) <= 24
