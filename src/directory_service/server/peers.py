# SPDX-License-Identifier: Apache-2.0
"""Who sent a message: what ZeroMQ says of the connection that it came over."""

from __future__ import annotations

import re
from collections.abc import Sequence

import zmq

from directory_client.wire.answers import Answer
from directory_client.wire.messages import MalformedMessage, encode, read_envelope

_IPC_PEER = re.compile(r"(localhost)?:\d+:\d+:\d+")  # user, group, process; never so on TCP


def user_of(frame: zmq.Frame) -> str:
    """Return what authentication called whoever sent this; empty if it was not asked."""
    return _property(frame, "User-Id")


def is_of_this_machine(frame: zmq.Frame) -> bool:
    """Tell whether this came over ipc."""
    return _IPC_PEER.fullmatch(_property(frame, "Peer-Address")) is not None


def address_of(frame: zmq.Frame) -> str:
    """Say where a peer is, for sentences: an IP address, or a process of this machine."""
    address = _property(frame, "Peer-Address")
    return f"this machine, process {address.split(':')[-1]}" if _IPC_PEER.fullmatch(address) else address


def key_is_gone(parts: Sequence[zmq.Frame]) -> list[bytes]:
    """Return the answer to a message whose key is not in the file any more."""
    try:
        id = read_envelope([part.bytes for part in parts]).id
    except MalformedMessage as error:
        id = error.id
    text = "your key is not among the directory's clients any more"
    fix = "add [[client]] to directory.toml, then vnetctl reload there"
    return encode(Answer(id=id, ok=False, error=text, fix=fix, code=1, why="key"))


def _property(frame: zmq.Frame, name: str) -> str:
    try:
        return str(frame.get(name))
    except zmq.ZMQError:
        return ""
