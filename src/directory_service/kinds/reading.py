# SPDX-License-Identifier: Apache-2.0
"""What the readers of several kinds use."""

from collections.abc import Callable
from typing import Any

from directory_client.toml.strict_toml import Table
from directory_client.vocabulary.addresses import parse_address
from directory_service.kinds.kind import Values


def without(values: Values, **defaults: Any) -> Values:
    """Return the values that are not at their default."""
    return {key: value for key, value in values.items() if key not in defaults or value != defaults[key]}


def read_addresses(table: Table, key: str) -> list[str]:
    """Return a list of addresses, each as it is kept."""
    found = table.strings(key, (), check=parse_address)
    return [str(parse_address(text)) if ":" in text else text for text in found]


def read_list(table: Table, key: str) -> list[Any]:
    """Return a list of whatever; an empty one if it is not there."""
    value = table.raw(key)
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise table.problem(key, f"{value!r} is no list", f"{key} = [{value}]")
    return list(value)


def check_in(table: Table, key: str, text: str, check: Callable[[str], object]) -> None:
    """Raise TomlError, about a key, for a text that `check` raises ValueError for."""
    try:
        check(text)
    except ValueError as error:
        raise table.problem(key, str(error), "correct it") from None
