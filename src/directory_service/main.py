# SPDX-License-Identifier: Apache-2.0
"""`vnet-directory`: run, init, backup, restore, check, keygen."""

from __future__ import annotations

import gc
import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

import click

from directory_client.keys import load_key_file, make_key_file
from directory_client.process.log import FORMATS, LEVELS, configure_log
from directory_client.process.notify import notify
from directory_client.realm import format_realm
from directory_client.toml.strict_toml import TomlError
from directory_client.wire.messages import DirectoryError
from directory_service.configuration import Configuration, embedded, load
from directory_service.facts.contract import Facts
from directory_service.facts.memory import MemoryFacts
from directory_service.facts.sqlite import SqliteFacts
from directory_service.model.presences import KEPT_S
from directory_service.protocol.dispatcher import Dispatcher
from directory_service.refused import Refused
from directory_service.reloading import Reloading
from directory_service.server.afterwards import Afterwards, LaterAudit
from directory_service.server.checking import check_listen, check_places, check_store
from directory_service.server.clocks import steady_ms, wall_ms
from directory_service.server.office import Office
from directory_service.server.opening import back_up, make_store, open_store, restore
from directory_service.server.server import MetricsPage, Server
from directory_service.server.taking_up import TakingUp
from directory_service.service import Directory
from directory_service.store.contract import StoreError
from directory_service.store.sqlite import SqliteStore
from directory_service.store.sqlite_file import StoreFull

log = logging.getLogger(__name__)

LARGE = 5_000  # records: writer and reader load them before they are needed


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="vnet-gateway", prog_name="vnet-directory")
def main() -> None:
    """The directory of virtual networks: who is where, and who may talk to whom.

    Gateways ask it for decisions; operators change it with vnetctl. Exit status: 0 done, 1 failed, 2 the
    input is wrong.
    """


@main.command()
@click.argument("config", required=False, type=click.Path(dir_okay=False))
@click.option(
    "--embedded", "runtime_dir", metavar="DIR", help="Serve one gateway on ipc:// in DIR, without a file."
)
@click.option(
    "--state", "state_dir", metavar="DIR", help="With --embedded: where the database and the audit file lie."
)
@click.option(
    "--make-once",
    is_flag=True,
    help="Make the store if there never was one (an embedded directory's first start).",
)
@click.option(
    "--log-level", default="info", type=click.Choice(LEVELS), show_default=True, help="What is logged."
)
@click.option(
    "--log-format",
    default="auto",
    type=click.Choice(FORMATS),
    show_default=True,
    help="auto: console on a terminal, one JSON object a line elsewhere.",
)
def run(
    config: str | None,
    runtime_dir: str | None,
    state_dir: str | None,
    make_once: bool,
    log_level: str,
    log_format: str,
) -> None:
    """Serve until SIGTERM; SIGHUP reads CONFIG again.

    So does vnetctl reload. CONFIG is a directory.toml, whose store `vnet-directory init` has made; a gateway
    with directory = "embedded" starts its own with --embedded and --state, which makes it at its first
    start."""
    configure_log("directory", log_level, log_format)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
    file = Path(config) if config is not None else None
    _guarded(
        lambda: _serve(_configuration(config, runtime_dir, state_dir), file, make_once or config is None)
    )


@main.command()
@click.argument("config", type=click.Path(dir_okay=False))
def check(config: str) -> None:
    """Read CONFIG, keys, store; say what is wrong, touch nothing.

    The store is read whole, its log is replayed and its records are compared with one another, also while the
    directory runs.
    """

    def look() -> None:
        configuration = load(config)
        if configuration.key_file is not None:
            load_key_file(configuration.key_file)
        for finding in (*check_listen(configuration), *check_places(configuration, config)):
            click.echo(f"warning: {finding.text}  fix: {finding.fix}")
        store = check_store(configuration)
        wrong = [finding for finding in store.findings if finding.is_wrong]
        for finding in store.findings:
            if finding.is_wrong:
                show_error(finding.text, finding.fix.replace("CONFIG", config))
            else:
                click.echo(f"warning: {finding.text}  fix: {finding.fix}")
        if wrong:
            sys.exit(1)
        name, listen = configuration.name, configuration.listen.name
        click.echo(f"{config} is good: {name} on {listen}, store {store.text}")

    _guarded(look)


@main.command()
@click.argument("config", type=click.Path(dir_okay=False))
def init(config: str) -> None:
    """Make the store of CONFIG, new and empty: a realm of its own.

    A realm is one world of V-nets and nodes. Gateways belong to the realm of the first directory that answers
    them, and listen to no other."""

    def make() -> None:
        store = make_store(load(config))
        click.echo(f"made {store.path}: realm {format_realm(store.world.realm)}, era {store.world.era}")
        store.close()

    _guarded(make)


@main.command()
@click.argument("config", type=click.Path(dir_okay=False))
@click.argument("copy", type=click.Path(dir_okay=False, path_type=Path))
def backup(config: str, copy: Path) -> None:
    """Write a copy of CONFIG's store to COPY, also while it is used."""

    def write() -> None:
        store = back_up(load(config), copy)
        world = store.world
        click.echo(
            f"wrote {copy}: realm {format_realm(world.realm)}, era {world.era}, revision {store.revision()}"
        )
        store.close()

    _guarded(write)


@main.command("restore")
@click.argument("config", type=click.Path(dir_okay=False))
@click.argument("copy", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def restore_command(config: str, copy: Path) -> None:
    """Put COPY in the place of the store of CONFIG. Stop the directory first.

    A new era begins: gateways know that revisions start over from the copy's, and ask for everything. What
    was there is kept beside it, with .before behind its name."""

    def put() -> None:
        store = restore(load(config), copy)
        click.echo(
            f"restored {store.path}: realm {format_realm(store.world.realm)}, revision {store.revision()};"
            f" era {store.world.era} begins"
        )
        store.close()

    _guarded(put)


@main.command()
@click.argument("path", type=click.Path(dir_okay=False))
def keygen(path: str) -> None:
    """Make a key pair in PATH, if none is there; print its public key.

    PATH is then for its owner only (mode 0600). For the directory (key_file in directory.toml; the public
    key is the gateways' directory_public_key) and for clients (the public key goes into [[client]]).
    """

    def make() -> None:
        pair = load_key_file(path) if Path(path).exists() else make_key_file(path)
        click.echo(pair.public.decode())

    _guarded(make)


def _configuration(config: str | None, runtime_dir: str | None, state_dir: str | None) -> Configuration:
    if config is not None:
        if runtime_dir is not None or state_dir is not None:
            raise DirectoryError("both a file and --embedded", "give one of them", 2)
        return load(config)
    if runtime_dir is None or state_dir is None:
        raise DirectoryError(
            "nothing to run", "vnet-directory run directory.toml    or    run --embedded DIR --state DIR", 2
        )
    return embedded(runtime_dir, state_dir)


def _serve(configuration: Configuration, file: Path | None, make_once: bool) -> None:
    os.umask(0o027)  # database, write-ahead log and audit file are not for every user of the machine
    keys = None
    if configuration.key_file is not None and not configuration.listen.local:
        keys = load_key_file(configuration.key_file)
    store = open_store(configuration, make_once)
    # Nearly all that is made while loading stays: looking through it for garbage doubles the time, and
    # later stops everything, for 0.4 s where there are 100 thousand endpoints. What is made later is looked
    # through while it is young.
    gc.disable()
    facts = _open_facts(configuration)
    directory = Directory(store, configuration.settings, wall_ms, steady_ms, facts, configuration.node_s)
    gc.freeze()
    gc.enable()
    gc.set_threshold(10_000, 10, 1 << 30)
    afterwards = Afterwards()
    facts.write_by(afterwards.do)
    audit = LaterAudit(configuration.audit_file, afterwards) if configuration.audit_file is not None else None
    path = configuration.store_path
    office = None if path is None else Office(configuration, directory.heard.since)
    dispatcher = Dispatcher(
        configuration,
        directory,
        secrets.randbits(63) | 1,
        time.monotonic(),
        audit=audit,
        jobs_elsewhere=office is not None,
    )
    open_metrics = partial(_open_metrics, dispatcher)
    metrics = open_metrics(configuration.metrics) if configuration.metrics is not None else None
    server = Server(configuration, dispatcher, keys, audit, metrics, office)
    reloading = Reloading(file, configuration, server, dispatcher, audit, open_metrics)
    dispatcher.reload = reloading.reload
    afterwards.call_soon, server.before_change = server.call_soon, afterwards.then
    taking_up = None
    if path is not None and office is not None:
        taking_up = TakingUp(directory, lambda: SqliteStore(path), server.wake)
        directory.leave_to(taking_up)
        if len(directory.current.records) >= LARGE:
            office.start()
    try:
        signal.set_wakeup_fd(server.wake_descriptor, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: server.stop())
        signal.signal(signal.SIGHUP, lambda *_: server.call_soon(reloading.on_signal))
        log.info(
            "%s serves %s at revision %d", configuration.name, configuration.listen.name, directory.revision
        )
        notify("READY=1")
        server.run()
        notify("STOPPING=1")
        log.info("stopped")
    finally:
        signal.set_wakeup_fd(-1)
        if office is not None:
            office.close()
        if taking_up is not None:
            taking_up.end()
        server.close()
        store.close()
        if afterwards.end():
            facts.close()
            if audit is not None:
                audit.close()


def _open_metrics(dispatcher: Dispatcher, listen: tuple[str, int]) -> MetricsPage:
    # Prometheus is slow to import; a directory that restarts has gateways waiting.
    from directory_service.server.metrics import DirectoryCollector, MetricsPage

    return MetricsPage(*listen, DirectoryCollector(dispatcher, time.monotonic))


def _open_facts(configuration: Configuration) -> Facts:
    if configuration.store_path is None:
        return MemoryFacts()
    path = configuration.store_path.with_name(configuration.store_path.name + ".facts")
    return SqliteFacts(path, steady_ms() / 1000 + KEPT_S)


def _guarded(action: Callable[[], None]) -> None:
    try:
        action()
    except TomlError as error:
        _fail(str(error), error.fix, 2)
    except DirectoryError as error:
        _fail(error.error, error.fix, error.code)
    except Refused as error:
        _fail(error.problem, error.fix, error.code)
    except StoreFull as error:
        _fail(f"the store cannot be used: {error}", "make room: df -h shows where it is missing", 1)
    except StoreError as error:
        fix = "look at the file, or put a copy in its place: vnet-directory restore CONFIG COPY"
        _fail(f"the store cannot be used: {error}", fix, 1)


def _fail(problem: str, fix: str, code: int) -> NoReturn:
    show_error(problem, fix)
    sys.exit(code)


def show_error(problem: str, fix: str) -> None:
    """Print what is wrong and what to type."""
    click.echo(f"error: {problem}", err=True)
    if fix:
        click.echo(f"fix:   {fix}", err=True)


if __name__ == "__main__":
    main()
