# SPDX-License-Identifier: Apache-2.0
"""CURVE keys: files with a key pair (mode 0600), and what a client needs to speak to a tcp:// directory.

The file is TOML, made by `vnet-directory keygen` and `vnet-gateway enroll`:

    public = "…40 characters…"
    secret = "…40 characters…"
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import zmq

from directory_client.wire.messages import DirectoryError

_Z85 = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#")


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A CURVE key pair in Z85 (40 characters each)."""

    public: bytes
    secret: bytes

    def __repr__(self) -> str:
        return f"KeyPair(public={self.public.decode()!r})"


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """What a client needs for tcp://: its own pair and the directory's public key, or several that are
    accepted: while a directory is given another one, or where directories have keys of their own."""

    pair: KeyPair
    server_public: bytes
    more_public: tuple[bytes, ...] = ()

    @property
    def server_publics(self) -> tuple[bytes, ...]:
        """The directory's public keys that are accepted, in the order in which they are tried."""
        return (self.server_public, *self.more_public)


def client_keys(key_file: str | Path, directory_public_keys: Sequence[str]) -> ClientKeys:
    """Read what gateway.toml's [identity] names. Raises DirectoryError."""
    publics = [check_public_key(key, "directory_public_key") for key in directory_public_keys or [""]]
    return ClientKeys(load_key_file(key_file), publics[0], tuple(publics[1:]))


def check_public_key(text: str, where: str) -> bytes:
    """Check a public key in Z85. Raises DirectoryError that names `where` it stands."""
    if len(text) != 40 or not set(text) <= _Z85:
        raise DirectoryError(
            f"{where} is no CURVE public key (40 characters of Z85)", "vnet-directory keygen prints it", 2
        )
    return text.encode()


def make_key_file(path: str | Path) -> KeyPair:
    """Make a new pair in a new file of mode 0600. Raises DirectoryError if the file is there or cannot be
    made."""
    public, secret = zmq.curve_keypair()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise DirectoryError(
            f"key file {path} is there already", "move it away first, or use it", 2
        ) from error
    except OSError as error:
        raise DirectoryError(
            f"key file {path} cannot be made: {error.strerror}", "choose another path", 2
        ) from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(b"# Keep this secret; give away only the public key.\n")
        file.write(b'public = "' + public + b'"\nsecret = "' + secret + b'"\n')
        file.flush()
        os.fsync(file.fileno())
    return KeyPair(public, secret)


def load_key_file(path: str | Path) -> KeyPair:
    """Read a key file. Raises DirectoryError if it is missing, readable by others, or no pair."""
    try:
        mode = os.stat(path).st_mode
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise DirectoryError(f"key file {path} is missing", f"vnet-directory keygen {path}", 2) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DirectoryError(f"key file {path} cannot be read: {error}", f"ls -l {path}", 2) from error
    if stat.S_IMODE(mode) & 0o077:
        raise DirectoryError(f"key file {path} can be read by others", f"chmod 600 {path}", 2)
    try:
        fields = tomllib.loads(text)
        public, secret = str(fields["public"]), str(fields["secret"])
        check_public_key(public, f"public in {path}")
        if zmq.curve_public(secret.encode()) != public.encode():
            raise ValueError("public and secret do not belong together")
    except (tomllib.TOMLDecodeError, KeyError, ValueError, zmq.ZMQError) as error:
        raise DirectoryError(
            f"key file {path} holds no key pair: {error}", f"vnet-directory keygen {path}.new", 2
        ) from error
    return KeyPair(public.encode(), secret.encode())
