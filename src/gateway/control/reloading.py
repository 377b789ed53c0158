# SPDX-License-Identifier: Apache-2.0
"""`reload`: have all processes of this gateway read their files again, and say what each took or waits for.

Control reads the file first: a wrong one is refused whole, and nobody else is bothered. The others are told
by SIGHUP, which finds them by their pid files, and say what they did in their `.in-force` files; an embedded
directory is asked.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from typing import Any

from directory_client.toml.changes import Reloaded
from directory_client.toml.strict_toml import list_mistakes
from gateway.configuration.configuration import Configuration
from gateway.configuration.reader import ConfigurationError, load
from gateway.processes import process
from gateway.processes.reloading import (
    InForce,
    Reloading,
    after_reading,
    found_since,
    read_in_force,
    tell,
    used_by,
    values_of,
)
from gateway.state.job import AskDirectory, Job, Refused, Wait

log = logging.getLogger(__name__)

LOOK_S = 0.05
PATIENCE_S = 5.0
DIRECTORY_S = 5.0


def others(configuration: Configuration) -> list[str]:
    """Name the processes that may run beside control, the parent last."""
    workers = [f"slow-path-{worker}" for worker in range(configuration.threads.slow_path_workers)]
    return ["data-plane", "data-plane-1", *workers, "parent"]


def hang_up(configuration: Configuration, name: str) -> bool:
    """Send SIGHUP to a process of this gateway; False: there is none."""
    try:
        found = process.find(name, configuration.runtime_dir)
    except (process.AlreadyRunning, OSError):  # it is just being started, and reads the file then
        return False
    if found is None:
        return False
    try:
        found.send(signal.SIGHUP)
    finally:
        found.close()
    return True


def reload(
    reloading: Reloading,
    configuration: Configuration,
    clock: Callable[[], float],
    tell_process: Callable[[Configuration, str], bool] = hang_up,
) -> Job:
    """Answer the request `reload`. Raises Refused (2) for a file that is wrong: nothing has changed then."""
    try:
        wanted = values_of(load(configuration.path))
        own = reloading.reload()
    except ConfigurationError as error:
        heading = f"{configuration.path} is wrong, nothing is taken over"
        texts = [(str(problem), problem.fix) for problem in error.problems]
        raise Refused(list_mistakes(heading, texts), f"vnet-gateway check {configuration.path}", 2) from None
    tell(own)
    rows = [own.row()]
    before = {name: read_in_force(configuration.runtime_dir, name) for name in others(configuration)}
    told = [name for name in before if name != "parent" and tell_process(configuration, name)]
    rows += yield from _gather(told, before, configuration, wanted, clock)
    rows += yield from _parent(before, configuration, wanted, clock, tell_process)
    if configuration.is_embedded:
        rows.append((yield from _directory()))
    return {"rows": rows}


def _gather(
    names: list[str],
    before: dict[str, InForce | None],
    configuration: Configuration,
    wanted: dict[str, str],
    clock: Callable[[], float],
) -> Any:
    """Wait until these processes have read the file; return a row for each."""
    deadline_s = clock() + PATIENCE_S
    rows: dict[str, dict[str, Any]] = {}
    while len(rows) < len(names) and clock() < deadline_s:
        for name in names:
            now = read_in_force(configuration.runtime_dir, name)
            was = before[name]
            if name in rows or now is None or (was and was.said_ns == now.said_ns):
                continue
            rows[name] = found_since(name, str(configuration.path), was, now, wanted).row()
        if len(rows) < len(names):
            yield Wait(LOOK_S)
    for name in names:
        if name not in rows:
            problem = f"did not say within {PATIENCE_S:.0f} s what it took: look at its log"
            rows[name] = Reloaded(name, str(configuration.path)).row() | {"problem": problem}
    return [rows[name] for name in names]


def _parent(
    before: dict[str, InForce | None],
    configuration: Configuration,
    wanted: dict[str, str],
    clock: Callable[[], float],
    tell_process: Callable[[Configuration, str], bool],
) -> Any:
    """Return the parent's row. It is told only if there is something for it to take: it tells all others."""
    said = before["parent"]
    if said is None:
        return []
    if after_reading("parent", said.values, used_by("parent", wanted)) == said.values:
        return [found_since("parent", str(configuration.path), said, said, wanted).row()]
    if not tell_process(configuration, "parent"):
        return []
    return (yield from _gather(["parent"], before, configuration, wanted, clock))


def _directory() -> Any:
    try:
        answer = yield AskDirectory("reload", {}, DIRECTORY_S)
    except Refused as error:
        text = error.error + (f"; fix: {error.fix}" if error.fix else "")
        return Reloaded("directory", "").row() | {"problem": text}
    names = ("process", "file", "taken", "waiting", "command")
    return {name: answer.get(name) for name in names}
