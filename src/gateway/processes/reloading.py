# SPDX-License-Identifier: Apache-2.0
"""Read gateway.toml again while a process runs: what it takes, and what waits for its restart.

Each process knows what it has in force, and writes that to `RUNTIME_DIR/NAME.in-force` when it starts and
after each reading, so that control can say of all of them what waits, whenever each was started. A file that
is wrong changes nothing.

    reloading = Reloading("slow-path-0", configuration, take)  # take(configuration) may raise DirectoryError
    signal.signal(signal.SIGHUP, …)                            # … reloading.on_signal() in the main loop
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from directory_client.process.log import configure_log
from directory_client.process.restart import restart_command
from directory_client.toml.changes import Change, Reloaded, compare, text
from directory_client.wire.messages import DirectoryError
from gateway.configuration.configuration import Configuration
from gateway.configuration.reader import ConfigurationError, load

log = logging.getLogger(__name__)

# kind of process -> what it reads in the file: keys, or what keys begin with
USES: Mapping[str, tuple[str, ...]] = {
    "parent": (
        *("runtime_dir", "state_dir", "directory", "embedded_directory.config", "log"),
        *("threads.slow_path_workers", "threads.spare_data_plane"),
    ),
    "data-plane": ("name", "runtime_dir", "port", "threads", "capacity", "memory", "hold", "log"),
    "control": (
        *("name", "site", "locators", "directory", "runtime_dir", "state_dir", "identity"),
        *("embedded_directory", "port", "threads.control_cpus", "admin", "metrics", "log"),
    ),
    "slow-path": (
        *("name", "locators", "directory", "runtime_dir", "state_dir", "identity", "embedded_directory"),
        *("port", "threads.control_cpus", "threads.slow_path_workers", "hold.wait_ms", "log"),
    ),
}
# … and of that it takes while it runs
LIVE: Mapping[str, tuple[str, ...]] = {
    "parent": ("log",),
    "data-plane": ("threads.idle", "threads.max_sleep_us", "hold", "log"),
    "control": ("site", "identity.directory_public_key", "admin.group", "admin.show_group", "metrics", "log"),
    "slow-path": ("identity.directory_public_key", "hold.wait_ms", "log"),
}
# … and of what it reads this does not concern it
_NOT: Mapping[str, tuple[str, ...]] = {
    "data-plane": (".addresses", ".exception", "threads.spare_data_plane"),
    "slow-path": (".addresses", ".exception", ".device", ".mtu_bytes"),
}


def values_of(configuration: Configuration) -> dict[str, str]:
    """Return what the file says, by its keys, defaults filled in."""
    return {key: text(value) for key, value in _flat(configuration, "") if key != "path"}


def kind_of(process: str) -> str:
    """Return the kind of a process: of slow-path-3 slow-path."""
    return process.rstrip("0123456789").rstrip("-")


def used_by(process: str, values: Mapping[str, str]) -> dict[str, str]:
    """Return of the file's values those that a process reads."""
    kind = kind_of(process)
    return {
        key: value
        for key, value in values.items()
        if _is_in(key, USES[kind]) and not any(key.endswith(one) for one in _NOT.get(kind, ()))
    }


def after_reading(process: str, before: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    """Return what a process has in force once it has taken what it may of what the file wants now."""
    live = LIVE[kind_of(process)]
    if "interrupt" in (before.get("threads.idle"), wanted.get("threads.idle")):  # set when ports start
        live = tuple(key for key in live if key != "threads.idle")
    kept = {key: value for key, value in before.items() if not _is_in(key, live)}
    return kept | {key: value for key, value in wanted.items() if _is_in(key, live)}


@dataclass(frozen=True)
class InForce:
    """What a process has said of itself: its pid, when (CLOCK_MONOTONIC: no two sayings are alike), what it
    has in force, how to restart it."""

    pid: int
    said_ns: int
    values: dict[str, str] = field(default_factory=dict)
    command: str = ""


def read_in_force(runtime_dir: Path, process: str) -> InForce | None:
    """Read what a process has said; None: nothing that can be read."""
    try:
        said = json.loads(_path(runtime_dir, process).read_text("utf-8"))
        return InForce(int(said["pid"]), int(said["said_ns"]), dict(said["values"]), str(said["command"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


class Reloading:
    """One process's. `take` has the process do with a new configuration what it can do while it runs; the log
    is done here. Makes its file when it is made."""

    def __init__(
        self,
        process: str,
        configuration: Configuration,
        take: Callable[[Configuration], None] | None = None,
        command: str = "",
    ) -> None:
        self._process = process
        self._configuration = configuration
        self._log = configuration.log
        self._take = take
        self._command = command or restart_command(f"vnet-gateway-{kind_of(process)}")
        self.values = used_by(process, values_of(configuration))
        self.say()

    def reload(self) -> Reloaded:
        """Read the file and take what may change. Raises ConfigurationError, DirectoryError; nothing has
        changed then."""
        wanted = load(self._configuration.path)
        file = used_by(self._process, values_of(wanted))
        after = after_reading(self._process, self.values, file)
        taken = compare(self.values, after)
        if self._take is not None:
            self._take(wanted)
        if wanted.log != self._log:
            configure_log(self._process, wanted.log.level, wanted.log.format)
            self._log = wanted.log
        self.values = after
        self.say()
        return Reloaded(
            self._process, str(self._configuration.path), taken, compare(after, file), self._command
        )

    def on_signal(self) -> None:
        """Reload and write to the log what became of it."""
        try:
            reloaded = self.reload()
        except ConfigurationError as error:
            for problem in error.problems:
                log.error("nothing is taken over: %s; fix: %s", problem, problem.fix)
        except DirectoryError as error:
            log.error("nothing is taken over: %s; fix: %s", error.error, error.fix)
        else:
            tell(reloaded)

    def say(self) -> None:
        """Write down what is in force."""
        now_ns = time.monotonic_ns()
        said = {"pid": os.getpid(), "said_ns": now_ns, "values": self.values, "command": self._command}
        path = _path(self._configuration.runtime_dir, self._process)
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            temporary.write_text(json.dumps(said), "utf-8")
            temporary.chmod(0o640)
            temporary.replace(path)
        except OSError as error:
            log.warning("%s: %s; vnetctl reload cannot say what waits here", path, error.strerror)


def tell(reloaded: Reloaded) -> None:
    """Write to the log what became of a reading."""
    for line in reloaded.lines():
        log.log(logging.WARNING if reloaded.waiting else logging.INFO, "%s", line)


def found_since(process: str, file: str, before: InForce | None, now: InForce, wanted: Any) -> Reloaded:
    """Say of another process what it took between two of its sayings, and what still waits there."""
    taken: list[Change] = compare(before.values, now.values) if before and before.pid == now.pid else []
    return Reloaded(process, file, taken, compare(now.values, used_by(process, wanted)), now.command)


def _path(runtime_dir: Path, process: str) -> Path:
    return runtime_dir / f"{process}.in-force"


def _is_in(key: str, names: tuple[str, ...]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)


def _flat(value: Any, prefix: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for item in fields(value):
        inner = getattr(value, item.name)
        if is_dataclass(inner):
            found += _flat(inner, f"{prefix}{item.name}.")
        elif isinstance(inner, Mapping):
            for name, one in inner.items():  # [port.NAME]
                inside = f"{prefix}{item.name.removesuffix('s')}.{name}."
                found += [(key, each) for key, each in _flat(one, inside) if key != f"{inside}name"]
        else:
            found.append((f"{prefix}{item.name}", inner))
    return found
