# SPDX-License-Identifier: Apache-2.0
"""Write values as TOML, the same value always the same way."""

from typing import Any

from directory_client.toml.toml_lines import format_path, toml_string


def toml_value(value: Any) -> str:
    """Write a value on one line, tables inline."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value:_}" if value >= 10_000 else str(value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str):
        return toml_string(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, dict):
        return (
            "{ "
            + ", ".join(f"{format_path((key,))} = {toml_value(item)}" for key, item in value.items())
            + " }"
        )
    raise TypeError(f"{value!r} has no TOML form")
