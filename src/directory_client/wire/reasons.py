# SPDX-License-Identifier: Apache-2.0
"""What `explain` answers: a decision and all that led to it. The directory makes it, vnetctl shows it.

Fields that are not known are passed over, and all may be missing: either end may be of another release.
"""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType


class RecordRow(Struct, kw_only=True, omit_defaults=True):
    """A record that led to a decision. `role`: source, destination, rule, path or profile; `way`: as which
    of the two a rule matched, there or back."""

    role: str = ""
    kind: str = ""
    name: str = ""
    text: str = ""
    revision: int = 0
    owner: str = ""
    way: str = ""


class RuleRow(Struct, kw_only=True):
    """A rule that looks at packets of a pair; `way`: there, back or both."""

    name: str = ""
    text: str = ""
    way: str = ""


class NearestRow(Struct, kw_only=True):
    """The rule that comes nearest to allowing it, and in what it differs."""

    name: str = ""
    text: str = ""
    way: str = ""
    differs: list[str] = []
    revision: int = 0


class BeforeRow(Struct, kw_only=True):
    """The rule that allowed it until a revision, and who made that."""

    name: str = ""
    text: str = ""
    revision: int = 0
    time: float = 0.0
    user: str = ""
    comment: str = ""


class BackRow(Struct, kw_only=True):
    """What becomes of the answers, and which gateway is asked about them."""

    action: str = ""
    reason: str = ""
    rule: str = ""
    port: int = 0
    node: str = ""


class CachedRow(Struct, kw_only=True):
    """A flow that a gateway has cached of it (of `show flows`)."""

    action: str = ""
    reason: str | None = None
    revision: int | None = None
    tunnel: str | int | None = None
    packets: int | None = None
    idle_s: float | None = None
    stale: bool | None = None


class Provenance(Struct, kw_only=True):
    """A decision with the records that led to it. `why` says more than the `sentence` of its reason, where
    there is more to say."""

    action: str = ""
    reason: str = ""
    sentence: str = ""
    why: str = ""
    granularity: str = ""
    lifetime_s: float | None = None
    revision: int = 0
    to_node: str = ""
    wire_id: int = 0
    tunnel_id: int = 0
    locator: str = ""
    records: list[RecordRow] = []


class Explanation(Provenance, kw_only=True):
    """The same for a connection as an operator names it. `rules`: where its ports decide; `back`: where it is
    allowed; `nearest`, `before`: where it is refused for want of a rule. `cached` is the gateway's; None: it
    was not asked."""

    vnet: str = ""
    source: str = ""
    destination: str = ""
    protocol: str = ""
    port: int | None = None
    source_port: int | None = None
    node: str = ""
    vni: int = 0
    rules: list[RuleRow] | UnsetType = UNSET
    back: BackRow | UnsetType | None = UNSET
    nearest: NearestRow | UnsetType | None = UNSET
    before: BeforeRow | UnsetType | None = UNSET
    cached: list[CachedRow] | None = None

    @property
    def rule(self) -> str:
        """The name of the rule that decided, empty if none did."""
        return next((one.name for one in self.records if one.role == "rule"), "")
