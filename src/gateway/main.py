# SPDX-License-Identifier: Apache-2.0
"""`vnet-gateway`: every process of the gateway is one of its commands.

Exit status: 0 done; 1 failed; 2 the configuration is wrong. Modules are imported by the command that needs
them: control starts without DPDK, the data plane without ZeroMQ.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

import click

from directory_client.process.log import configure_log
from gateway.configuration.configuration import Configuration
from gateway.configuration.reader import ConfigurationError, load, load_with_table
from gateway.processes.process import AlreadyRunning, claim

FILE = click.argument("file", type=click.Path(path_type=Path), default=Path("gateway.toml"))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="vnet-gateway", prog_name="vnet-gateway")
def main() -> None:
    """The gateway: joins the members of virtual networks wherever they live."""


@main.command()
@FILE
def run(file: Path) -> None:
    """Run the gateway: start its processes, restart those that end.

    SIGHUP has all of them read the file again, as vnetctl reload does."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
    from gateway.configuration.inventory import look_around
    from gateway.configuration.machine import find_problems
    from gateway.processes.children import run_gateway
    from gateway.processes.process import find

    try:
        configuration, table = load_with_table(file)
        configure_log("parent", configuration.log.level, configuration.log.format)
        make_places(configuration)
        has_data_plane = find("data-plane", configuration.runtime_dir) is not None
        problems = find_problems(configuration, table, look_around(), has_data_plane)
        if problems:
            raise ConfigurationError(problems)
        sys.exit(run_gateway(configuration))
    except ConfigurationError as error:
        _refuse(error)
    except AlreadyRunning as error:
        _fail(f"{error}: one gateway per runtime_dir", f"stop it first, or set runtime_dir in {file}")
    except OSError as error:
        _fail(f"{error.filename or error}: {error.strerror}", _remedy("runtime_dir and state_dir"))


@main.command()
@FILE
def check(file: Path) -> None:
    """Read the file, compare it with the machine, and touch nothing."""
    from gateway.configuration.machine import check_file

    try:
        click.echo(check_file(file))
    except ConfigurationError as error:
        _refuse(error)


@main.command()
@click.option("--name", default="", help="Name of the node (default: the host's).")
def init(name: str) -> None:
    """Look at this machine and print a gateway.toml for it."""
    from gateway.configuration.inventory import look_around
    from gateway.configuration.proposal import propose

    click.echo(propose(look_around(), name), nl=False)


@main.command("data-plane")
@FILE
@click.option("--instance", default=0, help="More than 0: wait as a spare until the tables are free.")
def data_plane(file: Path, instance: int) -> None:
    """Run the data plane only."""
    process = f"data-plane-{instance}" if instance else "data-plane"
    configuration = _begin(file, process)
    from gateway.data_plane.process import run as run_data_plane

    run_data_plane(configuration, process)


@main.command()
@FILE
def control(file: Path) -> None:
    """Run control only: admin sockets, exception ports, next hops."""
    configuration = _begin(file, "control")
    from gateway.control.process import run as run_control

    run_control(configuration)


@main.command("slow-path")
@FILE
@click.option(
    "--worker", default=0, show_default=True, help="Serves the V-nets with VNI % workers == worker."
)
def slow_path(file: Path, worker: int) -> None:
    """Run one slow-path worker only."""
    workers = _load(file).threads.slow_path_workers
    if not 0 <= worker < workers:
        click.echo(
            f"error: there is no worker {worker}: slow_path_workers = {workers}\n"
            f"fix:   0 to {workers - 1}, or raise slow_path_workers in {file}",
            err=True,
        )
        sys.exit(2)
    configuration = _begin(file, f"slow-path-{worker}")
    from gateway.slow_path.process import run as run_slow_path

    run_slow_path(configuration, worker)


@main.command()
@FILE
def directory(file: Path) -> None:
    """Run the embedded directory only."""
    from gateway.processes.children import directory_command

    configuration = _load(file)
    if not configuration.is_embedded:
        click.echo(f"error: {file}: directory is not embedded\nfix:   nothing is to be run here", err=True)
        sys.exit(2)
    lock = _claim(file, configuration, "directory")
    if lock >= 0:
        os.set_inheritable(lock, True)  # the pid file is the directory's from here on
    command = directory_command(configuration)
    os.execv(command[0], command)


@main.command()
@FILE
@click.option("--forget", is_flag=True, help="Belong to the realm of the next directory that answers.")
def realm(file: Path, forget: bool) -> None:
    """Print the realm that this gateway belongs to.

    A gateway takes the realm of the first directory that answers it, and listens to no other: another realm
    is another world. Forget it only if the gateway is meant to change worlds; then restart its slow path and
    control."""
    from directory_client.realm import RealmPin, format_realm

    configuration = _load(file)
    pinned = RealmPin(configuration.realm_file)
    if not pinned.realm:
        click.echo(f"{configuration.name} belongs to no realm yet: it takes that of the first directory")
        return
    click.echo(f"{configuration.name} belongs to realm {format_realm(pinned.realm)}, era {pinned.seen.era}")
    if forget:
        try:
            configuration.realm_file.unlink()
        except OSError as error:
            _fail(f"{configuration.realm_file}: {error.strerror}", "run as the gateway's user")
        click.echo("forgotten: restart the slow path and control, and the next directory's realm is taken")


def _begin(file: Path, process: str) -> Configuration:
    """Begin a process of the gateway: its configuration, log, CPUs and pid file."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
    configuration = _load(file)
    configure_log(process, configuration.log.level, configuration.log.format)
    # Writing to a log that nobody reads any more is an error like any other, not the end.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    if configuration.threads.control_cpus:
        os.sched_setaffinity(0, configuration.threads.control_cpus)
    _claim(file, configuration, process)
    return configuration


def make_places(configuration: Configuration) -> None:
    """Make the directories of a gateway's files. Whoever is in a group of [admin] finds its socket in
    runtime_dir, so all may pass there: its sockets and files have modes of their own. What it keeps is
    nobody else's. Raises OSError."""
    configuration.runtime_dir.mkdir(parents=True, exist_ok=True)
    configuration.state_dir.mkdir(mode=0o750, parents=True, exist_ok=True)


def _claim(file: Path, configuration: Configuration, process: str) -> int:
    try:
        configuration.runtime_dir.mkdir(parents=True, exist_ok=True)
        return claim(process, configuration.runtime_dir)
    except AlreadyRunning as error:
        _fail(str(error), f"stop it first, or give this one its own runtime_dir in {file}")
    except OSError as error:
        _fail(f"{configuration.runtime_dir}: {error.strerror}", _remedy("runtime_dir"))


def _remedy(keys: str) -> str:
    """Say what helps against directories that cannot be used."""
    return f"set {keys}" if os.geteuid() == 0 else f"run as root, or set {keys}"


def _load(file: Path) -> Configuration:
    try:
        return load(file)
    except ConfigurationError as error:
        _refuse(error)


def _refuse(error: ConfigurationError) -> NoReturn:
    click.echo(error.report(), err=True)
    sys.exit(2)


def _fail(problem: str, fix: str) -> NoReturn:
    click.echo(f"error: {problem}\nfix:   {fix}", err=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
