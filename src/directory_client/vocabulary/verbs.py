# SPDX-License-Identifier: Apache-2.0
"""Verbs of operators' requests that change nothing: whoever may only look may use these. Nothing is imported,
so that tools start fast."""

SHOWING = frozenset({"show", "explain", "events"})
