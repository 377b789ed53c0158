# SPDX-License-Identifier: Apache-2.0
"""Rows of answers as what both ends declare them to be (directory_client/wire)."""

from __future__ import annotations

from typing import Any, TypeVar

from vnetctl.errors import REFUSED, Failure

Declared = TypeVar("Declared")


def read_row(row: Any, kind: type[Declared]) -> Declared:
    """Return a row as what it is declared to be. Raises Failure, which names the field that is not."""
    import msgspec

    from directory_client.wire.messages import complaint

    try:
        return msgspec.convert(row, kind)
    except msgspec.ValidationError as error:
        raise Failure(
            complaint(error, f"the answer cannot be shown: {kind.__name__}"),
            "install vnetctl, gateway and directory of releases that are neighbours; --json shows it all",
            REFUSED,
        ) from None
