# SPDX-License-Identifier: Apache-2.0
"""What each kind of record may say: from a table of a file (or of a request) to its canonical values.

Canonical values are a dict in the words of topology.toml, in a fixed order, without what is at its default;
so equal declarations have equal values and a document can be written back from its records.
"""

import re
from collections.abc import Callable
from typing import Any

from directory_client.toml.strict_toml import Table
from directory_client.vocabulary.addresses import parse_address, parse_network
from directory_client.vocabulary.names import PORT, check_name, format_mac, parse_mac, parse_place

Values = dict[str, Any]

TRUST = ("internet", "carrier", "own")  # rising
PROTOCOLS = ("vxlan", "gre", "nvgre", "esp")
PROTO_NUMBERS = {"icmp": 1, "tcp": 6, "udp": 17, "sctp": 132}
WITH_PORTS = frozenset((6, 17, 132))
VNI_MAX = 2**24 - 1
DEFAULT_PRIORITY = 100
DEFAULT_PREFERENCE = 100

_PORT_RANGE = re.compile(r"(\d{1,5})-(\d{1,5})")


def read_site(table: Table) -> Values:
    """Read [site.NAME]."""
    return _without(
        {"kind": table.string("kind", "datacenter", ("datacenter", "enterprise", "third-party"))},
        kind="datacenter",
    )


def read_path(table: Table) -> Values:
    """Read [path.NAME]: two sites (twice the same: inside a site)."""
    sites = table.raw("sites")
    if not isinstance(sites, list) or len(sites) != 2 or not all(isinstance(site, str) for site in sites):
        raise table.problem("sites", "needs two names", 'sites = ["ams1", "ber1"]')
    for site in sites:
        _checked(table, "sites", site, check_name)
    return _without(
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


def read_profile(table: Table) -> Values:
    """Read [profile.NAME]."""
    protocol = table.string("protocol", choices=PROTOCOLS)
    values: Values = {
        "protocol": protocol,
        "udp_port": table.integer("udp_port", 0, 1, 65535),
        "mtu_bytes": table.integer("mtu_bytes", 0, 576, 65535),
        "ttl": table.integer("ttl", 64, 1, 255),
        "dscp": _read_dscp(table),
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
    return _without(values, udp_port=0, mtu_bytes=0, ttl=64, dscp="copy", cipher="", rekey_s=0)


def read_node(table: Table) -> Values:
    """Read [node.NAME]."""
    kind = table.string("kind", choices=("gateway", "vtep", "vpn"))
    values: Values = {
        "kind": kind,
        "site": table.string("site", "", check=check_name),
        "locators": list(table.strings("locators", (), check=parse_address)),
        "ids": {},
    }
    ids = table.table("ids")
    for vnet in sorted(ids.keys()):
        _checked(ids, vnet, vnet, check_name)
        values["ids"][vnet] = ids.integer(vnet, low=1, high=VNI_MAX)
    if kind == "gateway" and values["ids"]:
        raise table.problem("ids", "a gateway of ours uses the V-net's VNI", "remove ids")
    if kind != "gateway" and not values["locators"]:
        raise table.problem(None, f"a {kind} needs an address", 'locators = ["203.0.113.7"]')
    return _without(values, site="", locators=[], ids={})


def read_vnet(table: Table) -> Values:
    """Read the V-net's own keys of [vnet.NAME]; what lives in it is read by the others."""
    quota = table.table("quota")
    limits = _without(
        {
            "flows": quota.integer("flows", 0, 1, 2**32 - 1),
            "misses_per_second": quota.integer("misses_per_second", 0, 1, 2**32 - 1),
        },
        flows=0,
        misses_per_second=0,
    )
    quota.finish()
    mac = table.string("gateway_mac", "", check=parse_mac)
    return _without(
        {
            "vni": table.integer("vni", low=1, high=VNI_MAX),
            "prefixes": [
                str(parse_network(text)) for text in table.strings("prefixes", (), check=parse_network)
            ],
            "min_trust": table.string("min_trust", "carrier", TRUST),
            "gateway_mac": mac.lower(),
            "gateway_addresses": _addresses(table, "gateway_addresses"),
            "relays": list(table.strings("relays", (), check=check_name)),
            "quota": limits,
            "stale_max_s": table.integer("stale_max_s", -1, 0, 30 * 86400),
        },
        prefixes=[],
        min_trust="carrier",
        gateway_mac="",
        gateway_addresses=[],
        relays=[],
        quota={},
        stale_max_s=-1,
    )


def read_attachment(table: Table) -> Values:
    """Read what an attachment says beside its place, which is its name."""
    return _without({"mtu_bytes": table.integer("mtu_bytes", 0, 68, 65535)}, mtu_bytes=0)


def read_attachment_place(table: Table) -> tuple[tuple[str, ...], str, int]:
    """Read (nodes, port, vlan) of [[vnet.NAME.attachment]]."""
    return (
        table.strings("nodes", check=check_name, least=1),
        table.string("port", check=_check_port),
        table.integer("vlan", 0, 1, 4094),
    )


def read_endpoint(table: Table) -> Values:
    """Read one line of [vnet.NAME.endpoint]."""
    mac = format_mac(parse_mac(table.string("mac", check=parse_mac)))
    at = list(table.strings("at", (), check=parse_place))
    node = table.string("node", "", check=check_name)
    if bool(at) == bool(node):
        raise table.problem(
            None, "needs either at or node", 'at = ["ams1-gw1/rack:101"] or node = "ams1-gw1"'
        )
    values: Values = {
        "addresses": _addresses(table, "addresses"),
        "services": _addresses(table, "services"),
        "mac": mac,
        "node": node,
        "at": [str(parse_place(text)) for text in at],
        "groups": list(table.strings("groups", (), check=check_name)),
        "preference": table.integer("preference", DEFAULT_PREFERENCE, 0, 255),
    }
    return _without(
        values, addresses=[], services=[], node="", at=[], groups=[], preference=DEFAULT_PREFERENCE
    )


def read_route(table: Table) -> Values:
    """Read one line of [vnet.NAME.route]."""
    mac = table.string("router_mac", "", check=parse_mac)
    return _without(
        {
            "via": table.string("via", check=check_name),
            "router_mac": mac.lower(),
            "id": table.integer("id", 0, 1, VNI_MAX),
        },
        router_mac="",
        id=0,
    )


def read_rule(table: Table) -> Values:
    """Read [vnet.NAME.rule.NAME]."""
    proto = table.string("proto", "any", check=_check_proto)
    number = proto_number(proto)
    ports = [_read_port(table, item) for item in _list(table, "ports")]
    if ports and number not in WITH_PORTS:
        raise table.problem("ports", f"{proto} has no ports", 'proto = "tcp", "udp" or "sctp"')
    return _without(
        {
            "action": table.string("action", choices=("allow", "deny")),
            "from": table.string("from", check=check_selector),
            "to": table.string("to", check=check_selector),
            "proto": proto,
            "ports": ports,
            "direction": table.string("direction", "both", ("both", "forward")),
            "priority": table.integer("priority", DEFAULT_PRIORITY, 0, 65535),
            "stateful": table.boolean("stateful", False),
            "security": table.string("security", "any", ("any", "encrypted")),
            "rate_mbps": table.integer("rate_mbps", 0, 1, 2**32 - 1),
        },
        proto="any",
        ports=[],
        direction="both",
        priority=DEFAULT_PRIORITY,
        stateful=False,
        security="any",
        rate_mbps=0,
    )


def read_peering(table: Table) -> Values:
    """Read [vnet.NAME.peering.OTHER]: it says nothing but that it is there."""
    return {}


READERS: dict[str, Callable[[Table], Values]] = {
    "site": read_site,
    "path": read_path,
    "profile": read_profile,
    "node": read_node,
    "vnet": read_vnet,
    "attachment": read_attachment,
    "endpoint": read_endpoint,
    "route": read_route,
    "rule": read_rule,
    "peering": read_peering,
}


def proto_number(proto: str) -> int:
    """Return the IP protocol number of tcp, udp …, of a number, and 0 for any."""
    if proto == "any":
        return 0
    return PROTO_NUMBERS[proto] if proto in PROTO_NUMBERS else int(proto)


def proto_name(number: int) -> str:
    """Return tcp, udp …, else the number."""
    for name, known in PROTO_NUMBERS.items():
        if known == number:
            return name
    return str(number) if number else "any"


def port_range(item: int | str) -> tuple[int, int]:
    """Return (low, high) of 443 or "8000-8080"."""
    if isinstance(item, int):
        return item, item
    low, _, high = item.partition("-")
    return int(low), int(high)


def check_selector(text: str) -> None:
    """Raise ValueError unless text is any, group:NAME, a prefix or an endpoint's name."""
    if text == "any":
        return
    if text.startswith("group:"):
        check_name(text.removeprefix("group:"))
    elif "/" in text:
        if str(parse_network(text)) != text:
            raise ValueError(f"{text} is written {parse_network(text)}")
    else:
        check_name(text)


def _check_port(text: str) -> None:
    if PORT.fullmatch(text) is None:
        raise ValueError(f"{text!r} is no port name: at most 15 letters, digits, dots, hyphens")


def _check_proto(text: str) -> None:
    if text == "any" or text in PROTO_NUMBERS:
        return
    if not (text.isascii() and text.isdigit() and str(int(text)) == text and 1 <= int(text) <= 255):
        raise ValueError(f"{text!r} is none of any, {', '.join(PROTO_NUMBERS)} and no number from 1 to 255")
    if int(text) in PROTO_NUMBERS.values():
        raise ValueError(f'{text} is written "{proto_name(int(text))}"')


def _read_port(table: Table, item: Any) -> int | str:
    if isinstance(item, int) and not isinstance(item, bool) and 1 <= item <= 65535:
        return item
    match = _PORT_RANGE.fullmatch(item) if isinstance(item, str) else None
    if match and 1 <= int(match[1]) < int(match[2]) <= 65535:
        return f"{int(match[1])}-{int(match[2])}"
    raise table.problem("ports", f"{item!r} is no port", 'ports = [443, "8000-8080"]')


def _read_dscp(table: Table) -> int | str:
    value = table.raw("dscp") if "dscp" in table else "copy"
    if value == "copy" or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 63):
        return value
    raise table.problem("dscp", f"{value!r} is not possible", '"copy", or a number from 0 to 63')


def _addresses(table: Table, key: str) -> list[str]:
    found = table.strings(key, (), check=parse_address)
    return [str(parse_address(text)) if ":" in text else text for text in found]


def _list(table: Table, key: str) -> list[Any]:
    value = table.raw(key)
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise table.problem(key, f"{value!r} is no list", f"{key} = [{value}]")
    return list(value)


def _checked(table: Table, key: str, text: str, check: Callable[[str], object]) -> None:
    try:
        check(text)
    except ValueError as error:
        raise table.problem(key, str(error), "correct it") from None


def _without(values: Values, **defaults: Any) -> Values:
    return {key: value for key, value in values.items() if key not in defaults or value != defaults[key]}
