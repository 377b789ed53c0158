# SPDX-License-Identifier: Apache-2.0
"""What an operator asks a gateway (docs/protocol.md, section 3). Little is imported, so that tools start
fast."""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import Struct

VERSION = 1


class AdminRequest(Struct, kw_only=True, omit_defaults=True):
    """A verb, what it is about, and its arguments, whose meaning is the verb's. `at`: the gateway that is
    meant, or "all"."""

    is_free: ClassVar[bool] = True
    v: int
    id: int | str | None = None
    verb: str
    noun: str | None = None
    name: str | None = None
    args: dict[str, Any] | None = None
    at: str | None = None
