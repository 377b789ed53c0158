# SPDX-License-Identifier: Apache-2.0
"""Random identities, and seals: the proof that a version was told by a store of this realm.

A seal is BLAKE2b keyed with the realm's secret (RFC 7693). Gateways show it when they report the newest
version that they have seen, so a directory believes that its store went back, and nobody can claim it.
"""

import hashlib
import secrets

SECRET_BYTES = 32


def draw() -> int:
    """Return 63 random bits, never 0."""
    return secrets.randbits(62) + 1


def seal(secret: bytes, version: tuple[int, int, int]) -> int:
    """Return the seal of (era, incarnation, revision): 63 bits."""
    text = b"".join(part.to_bytes(8, "big") for part in version)
    made = hashlib.blake2b(text, digest_size=8, key=secret, person=b"vnet-version").digest()
    return int.from_bytes(made, "big") >> 1
