# SPDX-License-Identifier: Apache-2.0
"""Numbers as people read them."""

from __future__ import annotations

import pytest

from vnetctl.errors import printable
from vnetctl.units import THIN_SPACE, Units

PIPED, TERMINAL = Units(), Units(terminal=True)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.04, "0.0"),
        (3, "3"),
        (3.25, "3.2"),
        (99.96, "100"),
        (999.4, "999"),
        (999.6, "1 k"),
        (1210, "1.21 k"),
        (88_000, "88 k"),
        (640_000, "640 k"),
        (999_600, "1 M"),
        (1_210_000, "1.21 M"),
        (30_200_000, "30.2 M"),
        (9_060_000_000, "9.06 G"),
        (None, "-"),
    ],
)
def test_short_numbers_have_three_digits_and_a_scale(value: float | None, text: str) -> None:
    assert PIPED.short(value) == text


def test_digits_are_grouped_on_a_terminal_only() -> None:
    assert TERMINAL.count(412_903) == f"412{THIN_SPACE}903"
    assert PIPED.count(412_903) == "412903"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 µs"),
        (5, "5 µs"),
        (210, "0.21 ms"),
        (994, "0.99 ms"),
        (8200, "8.2 ms"),
        (210_000, "210 ms"),
        (2e6, "2.0 s"),
    ],
)
def test_delays_are_milliseconds(value: float, text: str) -> None:
    assert PIPED.delay_us(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 s"),
        (118, "118 s"),
        (300, "5 min"),
        (3600, "1 h"),
        (7380, "2 h 3 min"),
        (12 * 86_400 + 4 * 3600, "12 d 4 h"),
    ],
)
def test_durations_have_their_two_largest_parts(value: float, text: str) -> None:
    assert PIPED.duration(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 %"), (0.36, "36 %"), (0.9268, "92.7 %"), (0.004, "0.4 %"), (0.9999, "100 %"), (1, "100 %")],
)
def test_parts_of_a_whole_are_percent(value: float, text: str) -> None:
    assert PIPED.ratio(value) == text


def test_units_stand_with_bytes_and_bits() -> None:
    assert PIPED.bytes(198e9) == "198 GB"
    assert PIPED.bytes(17) == "17 B"
    assert PIPED.bits_per_s(88.6e9) == "88.6 Gb/s"


def test_text_from_elsewhere_cannot_move_the_cursor() -> None:
    assert printable("red\x1b[2J\x07") == "red�[2J�"
    assert printable(f"8{THIN_SPACE}950") == f"8{THIN_SPACE}950"
