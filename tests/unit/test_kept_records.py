# SPDX-License-Identifier: Apache-2.0
"""What a directory has once kept it can read for ever: a reader that became stricter would close V-nets at
an upgrade. Add to what stands here, and take nothing away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from directory_client.toml.strict_toml import Table
from directory_client.toml.toml_lines import Lines
from directory_service.kinds.records import make_record
from directory_service.kinds.registry import KIND_OF, KINDS

# kind → (name, values) of records as they are kept: each field in one of them, and as few as there can be.
KEPT: Mapping[str, tuple[tuple[str, Mapping[str, Any]], ...]] = {
    "site": (("ams1", {}), ("ams1", {"kind": "third-party"})),
    "path": (
        ("a-b", {"sites": ["a", "b"], "trust": "own"}),
        (
            "a-a",
            {"sites": ["a", "a"], "trust": "internet", "mtu_bytes": 576, "nat": True, "profile": "fabric"},
        ),
    ),
    "profile": (
        ("p", {"protocol": "nvgre"}),
        (
            "p",
            {
                "protocol": "vxlan",
                "udp_port": 8472,
                "mtu_bytes": 9000,
                "ttl": 1,
                "dscp": 63,
                "check_inner": True,
            },
        ),
        (
            "p",
            {
                "protocol": "esp",
                "cipher": "chacha20-poly1305",
                "rekey_s": 60,
                "probe": {"interval_ms": 10, "lost": 100},
            },
        ),
    ),
    "node": (
        ("g", {"kind": "gateway"}),
        ("v", {"kind": "vtep", "site": "a", "locators": ["203.0.113.7", "2001:db8::1"], "ids": {"red": 1}}),
        ("p", {"kind": "vpn", "locators": ["203.0.113.8"]}),
    ),
    "vnet": (
        ("red", {"vni": 1}),
        (
            "red",
            {
                "vni": 16_777_215,
                "prefixes": ["10.0.0.0/8", "2001:db8::/32"],
                "min_trust": "internet",
                "gateway_mac": "02:00:5e:00:00:01",
                "gateway_addresses": ["10.0.0.1", "2001:db8::1"],
                "relays": ["g"],
                "quota": {"flows": 1, "misses_per_second": 1},
                "stale_max_s": 0,
            },
        ),
    ),
    "attachment": (("red/g/rack", {}), ("red/g/rack:4094", {"mtu_bytes": 68})),
    "endpoint": (
        ("red/e", {"mac": "02:00:5e:00:00:02", "node": "g"}),
        (
            "red/e",
            {
                "addresses": ["10.0.0.2", "2001:db8::2"],
                "services": ["10.0.0.9"],
                "mac": "02:00:5e:00:00:02",
                "at": ["g/rack:101", "h/rack"],
                "groups": ["web", "db"],
                "preference": 255,
            },
        ),
    ),
    "route": (
        ("red/0.0.0.0/0", {"via": "e"}),
        ("red/2001:db8:1::/48", {"via": "v", "router_mac": "02:00:5e:00:00:03", "id": 7}),
    ),
    "rule": (
        ("red/r", {"action": "allow", "from": "any", "to": "any"}),
        (
            "red/r",
            {
                "action": "deny",
                "from": "group:web",
                "to": "10.0.0.0/24",
                "proto": "tcp",
                "ports": [443, "8000-8080"],
                "direction": "forward",
                "priority": 65535,
            },
        ),
        (
            "red/r",
            {
                "action": "allow",
                "from": "e",
                "to": "any",
                "proto": "47",
                "stateful": True,
                "security": "encrypted",
                "rate_mbps": 1,
            },
        ),
        (
            "red/r",
            {"action": "allow", "from": "e", "to": "any", "proto": "udp", "answer_ports": [53, "1024-65535"]},
        ),
    ),
    "peering": (("red/blue", {}),),
}


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS])
def test_what_was_kept_is_read(kind: str) -> None:
    for number, (name, values) in enumerate(KEPT[kind], 1):
        record = make_record(f"{kind}/{name}", number, number, "document", "d", values)
        KIND_OF[kind].check_name(record.local_name)
        KIND_OF[kind].typed(record)
        KIND_OF[kind].describe(values)


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS])
def test_each_field_that_a_kind_has_is_among_what_was_kept(kind: str) -> None:
    asked: set[str] = set()
    for _, values in KEPT[kind]:
        table = Table("", Lines(), (), dict(values))
        assert KIND_OF[kind].read(table) == values
        asked |= table._asked
    assert asked == {field for _, values in KEPT[kind] for field in values}
