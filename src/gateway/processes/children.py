# SPDX-License-Identifier: Apache-2.0
"""The processes of which a gateway is made, and the order in which they stop."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import zmq

from directory_client.process.restart import restart_command
from gateway.configuration.configuration import Configuration
from gateway.processes.parent import Child, Parent
from gateway.processes.reloading import Reloading
from gateway.processes.reporter import Reporter

log = logging.getLogger(__name__)

SLOW_PATH_RANK, CONTROL_RANK, DIRECTORY_RANK, DATA_PLANE_RANK = range(4)


def children(configuration: Configuration) -> list[Child]:
    """List the processes to keep alive; the data plane first, since it takes longest to start."""
    file = str(configuration.path.absolute())
    found = [Child("data-plane", _gateway("data-plane", file), DATA_PLANE_RANK)]
    if configuration.threads.spare_data_plane:
        command = _gateway("data-plane", file, "--instance", "1")
        # Not before the first one serves: at the beginning it is clear which of the two forwards.
        may_start = configuration.data_plane_socket.exists
        found.append(Child("data-plane-1", command, DATA_PLANE_RANK, may_start=may_start))
    if configuration.is_embedded:
        found.append(Child("directory", directory_command(configuration), DIRECTORY_RANK))
    found.append(Child("control", _gateway("control", file), CONTROL_RANK))
    for worker in range(configuration.threads.slow_path_workers):
        command = _gateway("slow-path", file, "--worker", str(worker))
        found.append(Child(f"slow-path-{worker}", command, SLOW_PATH_RANK))
    return found


def directory_command(configuration: Configuration) -> list[str]:
    """Return the command of the embedded directory: with a file of its own if it has one."""
    command = [sys.executable, "-m", "directory_service.main", "run", "--make-once"]
    command += ["--log-level", configuration.log.level, "--log-format", configuration.log.format]
    if configuration.embedded_directory.config is not None:
        return [*command, str(configuration.embedded_directory.config.absolute())]
    return [*command, "--embedded", str(configuration.runtime_dir), "--state", str(configuration.state_dir)]


def run_gateway(configuration: Configuration) -> int:
    """Be the parent of a gateway until SIGTERM. Returns the exit status. Raises AlreadyRunning."""
    ends_all = f"kill {os.getpid()}; vnet-gateway run {configuration.path}"
    if "NOTIFY_SOCKET" in os.environ:
        ends_all = restart_command("vnet-gateway")
    context: zmq.Context[Any] = zmq.Context()
    reporter = Reporter(context, configuration.control_inbox, "parent")
    try:
        reloading = Reloading("parent", configuration, command=f"{ends_all}   (forwarding stops meanwhile)")
        return Parent(
            configuration.runtime_dir, children(configuration), reporter.tell, reloading.on_signal
        ).run()
    finally:
        reporter.close()
        context.term()


def _gateway(command: str, file: str, *options: str) -> list[str]:
    return [sys.executable, "-m", "gateway.main", command, file, *options]
