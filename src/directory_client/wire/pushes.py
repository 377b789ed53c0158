# SPDX-License-Identifier: Apache-2.0
"""What the push socket says (docs/protocol.md, section 2.3): the head of a push."""

from __future__ import annotations

from directory_client.wire.greeting import Unsigned
from directory_client.wire.messages import Head


class PushHead(Head, kw_only=True):
    """The head of a push. `seq` counts in its topic, `sum` over the node's topics (0: it does not say);
    `last`: nothing of this revision follows for another V-net of the node. A heartbeat's seq is the sum."""

    seq: Unsigned
    epoch: Unsigned
    incarnation: Unsigned
    revision: Unsigned
    time_ms: Unsigned
    facts: Unsigned | None = None
    sum: Unsigned | None = None
    last: bool = True
    realm: Unsigned | None = None
    era: Unsigned | None = None
    seal: Unsigned | None = None
