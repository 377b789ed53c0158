# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the contract tests."""

from directory_house import house

__all__ = ["house"]
