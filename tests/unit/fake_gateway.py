# SPDX-License-Identifier: Apache-2.0
"""Rows as a gateway sends them, fixed, and a gateway that answers with them."""

from __future__ import annotations

from typing import Any

from vnetctl.errors import Failure

OVERVIEW = {
    "node": "ams1-gw1",
    "uptime_s": 12 * 86_400 + 4 * 3600 + 7,
    "version": "0.4.0",
    "site": "ams1",
    "directory": "ams1-dir1",
    "directory_revision": 41,
    "directory_rtt_us": 300,
    "data_plane": "up",
    "packets_per_s": 30_200_000.0,
    "in_bits_per_s": 88.6e9,
    "out_bits_per_s": 89.9e9,
    "flows": 412_903,
    "flows_max": 1_000_000,
    "misses_per_s": 8140.0,
    "first_packet_p50_us": 210.0,
    "first_packet_p99_us": 880.0,
    "held_packets": 12,
    "held_packets_max": 8192,
    "released_per_s": 8139.0,
    "expired_per_s": 1.0,
    "tunnels": 39,
    "tunnels_up": 38,
    "tunnels_unresolved": 1,
    "tunnels_down": 0,
    "threads": [{"thread": "poll-0", "busy_ratio": 0.36}, {"thread": "poll-1", "busy_ratio": 0.35}],
    "cycles_per_packet": 61.2,
    "dropped_per_s": 41.0,
    "drops_per_s": {"no_rule": 38.0, "ttl_exceeded": 2.0, "hold_expired": 1.0},
    "attention": [
        {
            "about": "tunnel 12 → 203.0.113.9",
            "text": "unresolved since 14:02:11: no route to 203.0.113.9",
            "command": "vnetctl show tunnel 12",
        },
        {
            "about": "directory ams1-dir2",
            "text": "late (210 ms), passed over",
            "command": "vnetctl show directories",
        },
    ],
}

TUNNEL_UP = {
    "node": "ams1-gw1",
    "tunnel": 7,
    "local_locator": "192.0.2.1",
    "remote_locator": "203.0.113.7",
    "remote_node": "ber1-leaf7",
    "profile": "fabric",
    "protocol": "vxlan",
    "udp_port": 4789,
    "ttl": 64,
    "state": "up",
    "since": None,
    "why": None,
    "fix": None,
    "next_hops": [
        {
            "port": "uplink0",
            "destination_mac": "02:00:5e:10:00:01",
            "source_mac": "02:00:5e:00:01:00",
            "vlan": 0,
        },
        {
            "port": "uplink1",
            "destination_mac": "02:00:5e:10:00:02",
            "source_mac": "02:00:5e:00:01:01",
            "vlan": 0,
        },
    ],
    "mtu_bytes": 9000,
    "inner_mtu_bytes": 8950,
    "locations": 48_211,
    "revision": 42,
    "tx_packets": 142_800_000,
    "tx_bytes": 198_000_000_000,
    "rx_packets": 5,
    "rx_bytes": 500,
    "tx_packets_per_s": 1_210_000.0,
    "rx_packets_per_s": 3.0,
    "tx_bits_per_s": 13.7e9,
    "rx_bits_per_s": 2400.0,
}
TUNNEL_UNRESOLVED = {
    **TUNNEL_UP,
    "tunnel": 12,
    "remote_locator": "203.0.113.9",
    "remote_node": "ber1-leaf9",
    "state": "unresolved",
    "why": "no route to 203.0.113.9",
    "fix": "ip route get 203.0.113.9",
    "next_hops": [],
    "locations": 1902,
    "tx_packets_per_s": 0.0,
    "rx_packets_per_s": None,
}

FLOW = {
    "node": "ams1-gw1",
    "vnet": "red",
    "vni": 7001,
    "source": "10.0.0.11",
    "source_port": 43210,
    "destination": "10.0.0.21",
    "destination_port": 5432,
    "protocol": "tcp",
    "class": "routed",
    "level": "connection",
    "action": "encapsulate",
    "reason": None,
    "tunnel": 7,
    "revision": 42,
    "stale": False,
    "idle_s": 118,
    "expires_in_s": 182,
    "packets": 142_780_000,
    "bytes": 198_000_000_000,
    "packets_per_s": 1_210_000.0,
    "ingress": 1,
    "source_object": 11,
    "destination_object": 12,
}
FLOW_DROPPED = {
    **FLOW,
    "source": "10.0.0.12",
    "source_port": 38800,
    "destination_port": 22,
    "action": "drop",
    "reason": "no_rule",
    "tunnel": None,
    "stale": True,
    "idle_s": 71,
    "packets": 213,
    "bytes": 18_000,
    "packets_per_s": 3.0,
}

DROPS = {
    "rows": [
        {
            "node": "ams1-gw1",
            "reason": "no_rule",
            "packets": 11_400,
            "share_ratio": 0.9268,
            "vnets": ["red", "blue"],
            "sentence": "no rule of the V-net allows the connection",
            "command": "vnetctl explain red 10.0.0.12 10.0.0.21",
        },
        {
            "node": "ams1-gw1",
            "reason": "ttl_exceeded",
            "packets": 900,
            "share_ratio": 0.0732,
            "vnets": ["red"],
            "sentence": "the hop limit ended here: is there a loop?",
            "command": "",
        },
    ],
    "seconds": 300,
    "received": 9_060_000_000,
}

THREADS = [
    {
        "node": "ams1-gw1",
        "thread": "poll-0",
        "kind": "poll",
        "cpu": 2,
        "packets_per_s": 15_200_000.0,
        "busy_ratio": 0.36,
        "packets_per_burst": 27.4,
        "cycles_per_packet": 61.0,
        "stage_cycles_per_packet": {"rx": 9, "parse": 8, "lookup": 11, "act": 16, "tx": 13, "other": 4},
        "sleeps_per_s": 0.0,
        "packets": 1,
    },
    {
        "node": "ams1-gw1",
        "thread": "slow-path-0",
        "kind": "slow-path",
        "cpu_ratio": 0.05,
        "misses_per_s": 8140.0,
        "busy_ratio": 0.04,
        "misses_per_batch": 11.2,
        "directory_p50_us": 190.0,
        "directory_p99_us": 710.0,
        "misses": 99,
        "silent_s": 0.3,
    },
]

PORT = {
    "node": "ams1-gw1",
    "port": "uplink",
    "role": "underlay",
    "device": "net_tap0,iface=up0",
    "state": "up",
    "mac": "02:00:5e:00:01:00",
    "mtu_bytes": 1500,
    "speed_mbps": 10_000,
    "exception": "uplink",
    "exception_problem": None,
    "addresses": ["192.0.2.1/24"],
    "in_packets_per_s": 1000.0,
    "out_packets_per_s": 999.6,
    "in_bits_per_s": 8e6,
    "out_bits_per_s": 8e3,
    "in_packets": 10,
    "out_packets": 11,
    "in_bytes": 1000,
    "out_bytes": 1100,
    "tx_full": 0,
    "rx_missed": 0,
    "rx_errors": 0,
    "exceptions": 4,
}

ENDPOINT = {
    "name": "red/web-1",
    "object_id": 11,
    "addresses": ["10.0.0.11"],
    "mac": "02:00:5e:00:00:11",
    "at": ["ams1-gw1/rack:101", "ams1-gw2/rack:101"],
    "groups": ["web"],
    "revision": 3,
    "owner": "ams-ber",
}

EXPLANATION: dict[str, Any] = {
    "node": "ams1-gw1",
    "vnet": "red",
    "vni": 7001,
    "source": "10.0.0.11",
    "destination": "10.0.0.21",
    "protocol": "tcp",
    "port": 5432,
    "action": "encapsulate",
    "reason": "",
    "sentence": "",
    "why": "",
    "granularity": "connection",
    "lifetime_s": 300.0,
    "revision": 42,
    "to_node": "ber1-leaf7",
    "locator": "203.0.113.7",
    "records": [
        {
            "role": "source",
            "kind": "endpoint",
            "name": "red/web-1",
            "text": "02:00:5e:00:00:11, ams1-gw1/rack:101",
            "revision": 3,
        },
        {
            "role": "rule",
            "kind": "rule",
            "name": "red/db-from-web",
            "text": "allow  group:web → group:db  tcp 5432",
            "revision": 42,
        },
    ],
    "cached": [FLOW],
}
REFUSED: dict[str, Any] = {
    **EXPLANATION,
    "source": "10.0.0.12",
    "port": 22,
    "action": "drop",
    "reason": "no_rule",
    "sentence": "no rule of the V-net allows the connection",
    "to_node": "",
    "locator": "",
    "lifetime_s": 5.0,
    "records": [
        {
            "role": "source",
            "kind": "endpoint",
            "name": "red/web-2",
            "text": "02:00:5e:00:00:12",
            "revision": 3,
        },
        {"role": "destination", "kind": "endpoint", "name": "red/db-1", "text": "ber1-leaf7", "revision": 42},
    ],
    "nearest": {
        "name": "db-from-web",
        "text": "allow  group:web → group:db  tcp 5432",
        "differs": ["port 22"],
        "revision": 42,
    },
    "before": {
        "name": "any",
        "text": "allow  any → any",
        "revision": 42,
        "time": 1_763_690_792.0,
        "user": "anna",
        "comment": "close red",
    },
    "cached": [FLOW_DROPPED],
}

PREVIEW: dict[str, Any] = {
    "document": "ams-ber",
    "before": 41,
    "revision": 41,
    "added": 1,
    "changed": 1,
    "removed": 1,
    "diff": [
        {"sign": "~", "kind": "endpoint", "name": "red/db-1", "text": "node  ber1-gw1 → ber1-leaf7"},
        {
            "sign": "+",
            "kind": "rule",
            "name": "red/db-from-web",
            "text": "allow  group:web → group:db  tcp 5432",
        },
        {"sign": "-", "kind": "rule", "name": "red/any", "text": "allow  any → any"},
    ],
    "flows": {
        "total": 41_203,
        "gateways": ["ams1-gw1", "ams1-gw2", "ber1-gw1"],
        "vnets": ["red"],
        "same": 40_912,
        "allowed": 0,
        "moved": [{"from": "ber1-gw1", "to": "ber1-leaf7", "count": 279}],
        "dropped": 12,
        "reasons": {"no_rule": 12},
        "dropped_rows": [
            {
                "vnet": "red",
                "node": "ams1-gw1",
                "source": "10.0.0.12",
                "destination": "10.0.0.21",
                "protocol": "tcp",
                "source_port": 38800,
                "destination_port": 22,
                "packets": 213,
                "source_name": "web-2",
                "destination_name": "db-1",
                "reason": "no_rule",
            }
        ],
        "unreadable": 0,
        "silent": [],
        "unseen": 0,
    },
}
APPLIED = {
    **PREVIEW,
    "revision": 42,
    "gateways": [
        {"node": "ams1-gw1", "state": "applied", "ms": 6.2},
        {"node": "ber1-gw1", "state": "applied", "ms": 7.1},
    ],
}
HISTORY = {
    "revision": 42,
    "time": 1_763_690_792.0,
    "user": "anna",
    "comment": "close red",
    "document": "ams-ber",
    "added": 1,
    "changed": 1,
    "removed": 1,
}
EVENT = {
    "seq": 3,
    "time": 1_763_690_792.5,
    "node": "ams1-gw1",
    "event": "tunnel_resolved",
    "text": "tunnels to 203.0.113.7 go by uplink0 02:00:5e:10:00:01",
}


class FakeGateway:
    """Answers from a table; keeps what was asked. A noun or verb that is not in the table is refused."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.asked: list[dict[str, Any]] = []

    def ask(self, request: dict[str, Any], timeout_s: float = 0.0) -> dict[str, Any]:
        self.asked.append(request)
        key = request.get("noun") if request["verb"] == "show" else request["verb"]
        if request["verb"] in ("apply", "rollback"):
            key = "preview" if request["args"].get("dry_run") else request["verb"]
        answer = self.answers.get(str(key))
        if isinstance(answer, Failure):
            raise answer
        if answer is None:
            raise Failure(f"no {key} here", "", 2)
        return answer if isinstance(answer, dict) else {"ok": True, "rows": answer}


ALL_ANSWERS: dict[str, Any] = {
    "overview": [OVERVIEW],
    "tunnels": [TUNNEL_UP, TUNNEL_UNRESOLVED],
    "flows": {"rows": [FLOW, FLOW_DROPPED], "more": 22_868, "total": 22_870, "rates_s": 1.0},
    "ports": [PORT],
    "threads": THREADS,
    "counters": [{"node": "ams1-gw1", "counter": "hits", "value": 1_234_567, "per_s": 5.0}],
    "drops": DROPS,
    "endpoints": [ENDPOINT],
    "explain": [EXPLANATION],
    "preview": PREVIEW,
    "apply": APPLIED,
    "rollback": {**APPLIED, "document": ""},
    "release": {**APPLIED, "document": ""},
    "export": {"text": 'document = "ams-ber"\n'},
    "history": [HISTORY],
    "events": [EVENT],
    "set": {"before": 42, "revision": 43},
    "remove": {"before": 43, "revision": 44},
}
