# SPDX-License-Identifier: Apache-2.0
"""The id of a gateway's life: shared by its processes, and no other gateway's, whatever was copied.

The directory tells a second gateway of the same name by it. It lies in runtime_dir, which is in memory, and
is mixed with the machine's boot id: a copied disk brings neither along. Processes may end and start again,
the parent too: the id stays until the machine starts again or runtime_dir is made anew.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
from pathlib import Path

log = logging.getLogger(__name__)

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def instance(runtime_dir: Path, boot_id: Path = BOOT_ID) -> str:
    """Return this gateway's instance; whichever process asks first draws it."""
    path = runtime_dir / "instance"
    try:
        drawn = _read(path) or _draw(path)
    except OSError as error:
        # Alone it would be a second gateway to its own processes: better to be one that does not say.
        log.warning("%s: %s; a second gateway of this name is not told apart", path, error.strerror)
        return ""
    try:
        boot = boot_id.read_bytes()
    except OSError:
        boot = b""
    return hashlib.sha256(boot + drawn).hexdigest()[:32]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _draw(path: Path) -> bytes:
    """Make the file whole or not at all; if two do at once, the first one's holds."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_bytes(secrets.token_bytes(16))
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
    return path.read_bytes()
