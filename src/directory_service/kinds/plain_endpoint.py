# SPDX-License-Identifier: Apache-2.0
"""Endpoints that are written plainly, read at once: a document has 100 thousand of them, a topology of sites
ten. `endpoint.read_endpoint` is the truth, says what is wrong, and a test compares the two."""

import re
from collections.abc import Mapping
from sys import intern
from typing import Any

from directory_client.vocabulary.names import NAME
from directory_service.kinds.kind import Values

DEFAULT_PREFERENCE = 100

FIELDS = frozenset(("addresses", "services", "mac", "node", "at", "groups", "preference"))
_BYTE = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_UNICAST = re.compile(rf"(?:22[0-3]|2[01][0-9]|1[0-9][0-9]|[1-9][0-9]?)(?:\.{_BYTE}){{3}}")
_MAC = re.compile(r"[0-9a-f][02468ace](?::[0-9a-f]{2}){5}")
_PLACE = re.compile(rf"{NAME.pattern}/[A-Za-z0-9][A-Za-z0-9_.-]{{0,14}}(?::[1-9][0-9]{{0,2}})?")
_NO_MAC = "00:00:00:00:00:00"


def read_plain_endpoint(said: Mapping[str, Any]) -> Values | None:
    """Return what read_endpoint returns for what tomllib read, None if that has to look: something is wrong,
    or not written as it would be kept. Addresses are IPv4, VLANs below 1000."""
    if not said.keys() <= FIELDS:
        return None
    mac, node, at = said.get("mac"), said.get("node"), said.get("at")
    if type(mac) is not str or _MAC.fullmatch(mac) is None or mac == _NO_MAC:
        return None
    values: Values = {}
    for key in ("addresses", "services"):
        if key in said:
            texts = said[key]
            if not _are_all(texts, _UNICAST):
                return None
            if texts:
                values[key] = list(texts)
    values["mac"] = mac
    if "at" not in said:
        if type(node) is not str or NAME.fullmatch(node) is None:
            return None
        values["node"] = intern(node)
    elif "node" in said or not at or not _are_all(at, _PLACE):
        return None
    else:
        values["at"] = [intern(place) for place in at]
    if "groups" in said:
        groups = said["groups"]
        if not _are_all(groups, NAME):
            return None
        if groups:
            values["groups"] = [intern(group) for group in groups]
    preference = said.get("preference", DEFAULT_PREFERENCE)
    if type(preference) is not int or not 0 <= preference <= 255:
        return None
    if preference != DEFAULT_PREFERENCE:
        values["preference"] = preference
    return values


def _are_all(texts: Any, form: re.Pattern[str]) -> bool:
    """Tell whether these are strings of a form in a list, none of them twice."""
    if type(texts) is not list:
        return False
    for text in texts:
        if type(text) is not str or form.fullmatch(text) is None:
            return False
    return len(texts) < 2 or len(set(texts)) == len(texts)
