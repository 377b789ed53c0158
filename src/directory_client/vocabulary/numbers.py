# SPDX-License-Identifier: Apache-2.0
"""The numbers that stand on the wire, equal to the enums of native/include/fp_types.h.

This package runs where there is no compiled code, so it has its own list; a test compares it with the header.
"""

from enum import IntEnum, IntFlag


class KeyClass(IntEnum):
    """What a key is about (enum fp_key_class)."""

    ROUTED = 1
    BRIDGED = 2
    MAC = 3
    NEIGHBOR = 4
    SOURCE = 5
    RESTORE = 6


class KeyFlag(IntFlag):
    """Flags of a key (enum fp_key_flag)."""

    IPV6 = 1 << 0
    CONNECTION = 1 << 1
    FRAGMENT = 1 << 2
    DESTINATION = 1 << 3


class Action(IntEnum):
    """What a decision does (enum fp_action)."""

    NONE = 0
    DROP = 1
    ENCAPSULATE = 2
    DELIVER = 3
    RELAY = 4
    ANSWER = 5
    NARROW = 6
    REWRITE = 7
    RESTORE = 8
    SECURE = 9


class Granularity(IntEnum):
    """Which keys a decision is for; a number of the directory's wire only."""

    PAIR = 1
    CONNECTION = 2
    DESTINATION = 3


class ChangeKind(IntEnum):
    """What a change did to the keys in its scope (enum fp_change_kind)."""

    TIGHTEN = 1
    LOOSEN = 2
    MOVE = 3


class ScopeFlag(IntFlag):
    """Which keys between its prefixes a scope holds (enum fp_scope_flag)."""

    EITHER = 1 << 0
    SOURCE_PORT = 1 << 1
    CONNECTIONS = 1 << 2
    JUDGED = 1 << 3
    IP = 1 << 4


class IngressKind(IntEnum):
    """Where a packet came in (enum fp_ingress_kind)."""

    ATTACHMENT = 1
    NODE = 2


class IngressFlag(IntFlag):
    """Flags of an ingress (enum fp_ingress_flag)."""

    LIVE = 1 << 0
    RELAY = 1 << 1
    FOREIGN = 1 << 2
    CHECK = 1 << 3


class Protocol(IntEnum):
    """How a V-net stands on the wire (enum fp_protocol)."""

    VXLAN = 1
    GRE = 2
    NVGRE = 3
    ESP = 4


class LocationKind(IntEnum):
    """What a location's target is (enum fp_location_kind)."""

    NONE = 0
    LOCAL = 1
    TUNNEL = 2
    SET = 3
