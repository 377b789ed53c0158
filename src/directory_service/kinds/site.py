# SPDX-License-Identifier: Apache-2.0
"""Sites: where nodes are."""

from directory_client.kinds import site
from directory_client.toml.strict_toml import Table
from directory_service.kinds.kind import Kind, Values, World
from directory_service.kinds.reading import without
from directory_service.kinds.records import Record
from directory_service.kinds.sections import Tables


def read_site(table: Table) -> Values:
    """Read [site.NAME]."""
    return without(
        {"kind": table.string("kind", "datacenter", ("datacenter", "enterprise", "third-party"))},
        kind="datacenter",
    )


def _more(world: World, record: Record) -> Values:
    return {"kind": record.values.get("kind", "datacenter")}


SITE = Kind(site.SITE, read_site, Tables(), more=_more)
