# SPDX-License-Identifier: Apache-2.0
"""Read directory.toml again while the directory runs: what it takes, and what waits for a restart.

A file that is wrong, or that the machine refuses, changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from directory_client.process.restart import restart_command
from directory_client.toml.changes import Reloaded, compare
from directory_client.toml.strict_toml import TomlError
from directory_client.wire.messages import DirectoryError
from directory_service.configuration import Configuration, live_part, load, values
from directory_service.protocol.audit import AuditFile
from directory_service.protocol.dispatcher import Dispatcher
from directory_service.server.server import MetricsPage, Server

log = logging.getLogger(__name__)


class Reloading:
    """Has all parts of a running directory take what the file says now. `make_metrics` opens a page."""

    def __init__(
        self,
        file: Path | None,
        configuration: Configuration,
        server: Server,
        dispatcher: Dispatcher,
        audit: AuditFile | None,
        make_metrics: Callable[[tuple[str, int]], MetricsPage],
    ) -> None:
        self._file = file
        self._in_force = configuration
        self._server = server
        self._dispatcher = dispatcher
        self._audit = audit
        self._make_metrics = make_metrics

    def reload(self) -> Reloaded:
        """Read the file and take what may change. Raises TomlError, DirectoryError; nothing has changed
        then."""
        if self._file is None:
            return Reloaded("directory", "")  # an embedded one without a file of its own
        before, wanted = self._in_force, load(self._file)
        after = live_part(before, wanted)
        self._server.check(after)
        if after.metrics != before.metrics:
            self._server.show_metrics(self._make_metrics(after.metrics) if after.metrics else None)
        if self._audit is not None and after.audit_file is not None:
            self._audit.move(after.audit_file)
        self._dispatcher.take(after)
        self._server.take(after)
        self._in_force = after
        return self._log(
            Reloaded(
                "directory",
                str(self._file),
                compare(values(before), values(after)),
                compare(values(after), values(wanted)),
                restart_command("vnet-directory"),
            )
        )

    def on_signal(self) -> None:
        """Reload and write to the log what became of it."""
        try:
            reloaded = self.reload()
        except TomlError as error:
            log.error("nothing is taken over: %s; fix: %s", error, error.fix)
        except DirectoryError as error:
            log.error("nothing is taken over: %s; fix: %s", error.error, error.fix)
        else:
            if not reloaded.file:
                log.info("this directory has no file of its own: nothing is read again")

    def _log(self, reloaded: Reloaded) -> Reloaded:
        for line in reloaded.lines():
            log.log(logging.WARNING if reloaded.waiting else logging.INFO, "%s", line)
        return reloaded
