# SPDX-License-Identifier: Apache-2.0
"""What only trying tells: whether a directory serves this gateway, and whether another one has its name.

Nothing is taken or changed by it: no lock, no lease of the name.
"""

from __future__ import annotations

import os
from pathlib import Path

from directory_client.client import DirectoryClient
from directory_client.keys import client_keys
from directory_client.wire.messages import DirectoryError
from gateway.configuration.configuration import Configuration

DIRECTORY_S = 3.0  # how long `check` waits for a directory
SHARED_MEMORY = Path("/dev/shm")
MOUNTS = Path("/proc/self/mounts")
LOCKS = Path("/proc/locks")


def lives(process: str, runtime_dir: Path) -> bool:
    """Say whether a process of this gateway runs, which has the port then."""
    try:
        pid = int((runtime_dir / f"{process}.pid").read_text("ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return False
    return Path(f"/proc/{pid}").exists()


def find_twin(configuration: Configuration) -> list[str]:
    """Notice a gateway of this name on this machine, whose runtime_dir is another: it has the tables."""
    name, runtime_dir = configuration.name, configuration.runtime_dir
    if any(lives(process, runtime_dir) for process in ("data-plane", "data-plane-1")):
        return []
    mounts = [line.split()[1:3] for line in MOUNTS.read_text().splitlines()]
    places = [SHARED_MEMORY, *(Path(place) for place, kind in mounts if kind == "hugetlbfs")]
    for path in (place / f"vnet-{name}" for place in places):
        if _is_locked(path):
            text = f"a data plane called {name} runs on this machine already: it holds {path}"
            return [f"{text}  fix: choose another name, or stop the other"]
    return []


def _is_locked(path: Path) -> bool:
    """Say whether some process has a file's lock; looked up, for whoever tries may be in the way."""
    try:
        status, locks = path.stat(), LOCKS.read_text()
    except OSError:
        return False
    file = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    return any(file in line.split() for line in locks.splitlines())


def ask_directories(configuration: Configuration, patience_s: float = DIRECTORY_S) -> list[str]:
    """Try the directories; return why none of them serves this gateway, a sentence each."""
    if configuration.is_embedded:
        return []
    identity = configuration.identity
    keys = client_keys(identity.key_file, identity.directory_public_key) if identity else None
    client = DirectoryClient(configuration.directory_endpoints, keys=keys)
    try:
        client.call("names", timeout_s=patience_s, ids=[], node=configuration.name)
        return _ask_for_twin(client, configuration, patience_s)
    except DirectoryError as error:
        return [f"{error.error}  fix: {error.fix}"]
    finally:
        client.close()


def _ask_for_twin(client: DirectoryClient, configuration: Configuration, patience_s: float) -> list[str]:
    """Ask who the directory takes for this gateway. Raises DirectoryError."""
    name = configuration.name
    rows = client.call("list", timeout_s=patience_s, kind="nodes").get("rows") or ()
    row = next((row for row in rows if row.get("name") == name), None)
    if row is None:
        fix = f"vnetctl node add {name} --kind gateway"
        return [f"the directory has no node {name}: this gateway will carry nothing  fix: {fix}"]
    if row.get("kind") != "gateway":
        return [f"to the directory {name} is a {row.get('kind')}, no gateway  fix: another name"]
    fix = "give this one a name and a key of its own, or stop the other"
    if row.get("second"):
        return [f"{row['second']}  fix: {fix}"]
    is_here = any(lives(one, configuration.runtime_dir) for one in ("control", "slow-path-0"))
    if row.get("state") == "up" and not is_here:
        heard = f"heard {row.get('silent_s') or 0:.0f} s ago"
        return [f"a gateway called {name} runs already, and not here: {heard}  fix: {fix}"]
    return []
