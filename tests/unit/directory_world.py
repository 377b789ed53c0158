# SPDX-License-Identifier: Apache-2.0
"""What the tests of the directory's state share: a document, a clock, questions. Fixtures: conftest.py."""

from typing import Any

import numpy as np

from directory_client.vocabulary.addresses import pack_address
from directory_client.vocabulary.numbers import IngressKind, KeyClass
from directory_client.wire.rows import QUERY
from directory_service.service import Push
from whole_directory import WholeDirectory as Directory

DOCUMENT = """\
document = "ams-ber"

[site.ams1]
[site.ber1]

[path.ams1-ber1]
sites = ["ams1", "ber1"]
trust = "carrier"

[node.gw1]
kind = "gateway"
site = "ams1"

[node.gw2]
kind = "gateway"
site = "ber1"

[node.leaf]
kind = "vtep"
site = "ber1"
locators = ["203.0.113.7"]
ids = { red = 99 }

[vnet.red]
vni = 7001
prefixes = ["10.0.0.0/24"]

[[vnet.red.attachment]]
nodes = ["gw1", "gw2"]
port = "rack"
vlan = 101

[vnet.red.endpoint]
web-1 = { addresses = ["10.0.0.11"], mac = "02:00:5e:00:00:11", at = ["gw1/rack:101"], groups = ["web"] }
web-2 = { addresses = ["10.0.0.12"], mac = "02:00:5e:00:00:12", node = "gw1", groups = ["web"] }
db-1 = { addresses = ["10.0.0.21"], mac = "02:00:5e:00:00:21", node = "gw2", groups = ["db"] }
db-2 = { addresses = ["10.0.0.22"], mac = "02:00:5e:00:00:22", node = "leaf", groups = ["db"] }

[vnet.red.rule.any]
action = "allow"
from = "any"
to = "any"

[vnet.blue]
vni = 7002

[[vnet.blue.attachment]]
nodes = ["gw1"]
port = "rack"
vlan = 102
"""
CLOSED = DOCUMENT.replace(
    '[vnet.red.rule.any]\naction = "allow"\nfrom = "any"\nto = "any"',
    '[vnet.red.rule.db]\naction = "allow"\nfrom = "group:web"\nto = "group:db"\n'
    'proto = "tcp"\nports = [5432]',
)
SINGLE = {"addresses": ["10.0.0.40"], "mac": "02:00:5e:00:00:40", "node": "gw1"}


class Clock:
    def __init__(self) -> None:
        self.ms = 1_000_000_000_000

    def __call__(self) -> int:
        return self.ms


def ask(directory: Directory, source: str, destination: str, node: str = "gw1") -> tuple[int, Any]:
    """Ask about a packet that came in by red's attachment of a node."""
    row = np.zeros(1, QUERY)
    row["vni"], row["key_class"], row["ingress_kind"] = 7001, KeyClass.BRIDGED, IngressKind.ATTACHMENT
    row["source"], row["destination"] = list(pack_address(source)), list(pack_address(destination))
    row["ingress_object"] = directory.list_records("attachments", "red", f"{node}/rack:101")[0]["object_id"]
    answer = directory.resolve(node, ["vxlan"], row)
    return int(answer.decisions[0]["action"]), answer


def ops_of(pushes: list[Push], node_id: int, vni: int, op: str | None = None) -> list[dict[str, Any]]:
    return [
        one
        for push in pushes
        if (push.node_id, push.vni) == (node_id, vni)
        for one in push.ops
        if op in (None, one["op"])
    ]
