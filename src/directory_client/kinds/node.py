# SPDX-License-Identifier: Apache-2.0
"""Nodes, as operators know them."""

from directory_client.kinds.noun import OWNED, Column, Noun, Option, Row


def _problem(row: Row) -> str:
    """A second gateway of that name, and locators that it says it has in vain."""
    conflicts = [one.get("problem") for one in row.get("conflicts") or () if isinstance(one, dict)]
    return "; ".join(str(text) for text in (row.get("second"), *conflicts) if text)


NODE = Noun(
    "node",
    "nodes",
    of_vnet=False,
    for_all=True,
    help="Nodes: gateways of ours, foreign VTEPs, VPN peers.",
    example="vnetctl node add ber1-leaf7 --kind vtep --site ber1 --locator 203.0.113.7",
    options=(
        Option("--kind", "kind", "gateway (if not said), vtep or vpn"),
        Option("--site", "site", "Where it is"),
        Option("--locator", "locators", "An underlay address; a gateway says its own", "many"),
    ),
    added_with={"kind": "gateway"},
    columns=(
        Column("node", "name"),
        Column("kind", "kind", rank=2),
        Column("site", "site", rank=1),
        Column("locators", "locators", "list"),
        Column("state", "state", rank=3, state=True),
        Column("applied", "applied_revision", rank=4, right=True),
        Column("problem", "problem", say=_problem, rank=5),
        *OWNED,
    ),
)
