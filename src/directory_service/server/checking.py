# SPDX-License-Identifier: Apache-2.0
"""What `vnet-directory check` looks at beside directory.toml: ports, folders, and the store. Touches
nothing."""

import errno
import os
from collections.abc import Iterable
from typing import NamedTuple

from directory_client.endpoint import bind_errno
from directory_client.realm import format_realm
from directory_client.wire.messages import DirectoryError
from directory_service.configuration import Configuration
from directory_service.documents.integrity import find_faults
from directory_service.kinds.records import is_record_key
from directory_service.model.snapshot import Snapshot, changed_records, empty_snapshot
from directory_service.store.contract import Change, StoreError
from directory_service.store.looking import RESTORE, Looked, look

SHOWN = 5  # of findings that are alike


class Finding(NamedTuple):
    """What was found, and what to do. `is_wrong`: it cannot be relied on as it is."""

    text: str
    fix: str
    is_wrong: bool = False


class Checked(NamedTuple):
    """What a store is, in a few words, and what was found in it."""

    text: str
    findings: list[Finding]


def check_listen(configuration: Configuration) -> list[Finding]:
    """Raise DirectoryError for an address that is not here; a port that is taken may be our own."""
    found = []
    places = [] if configuration.metrics is None else [configuration.metrics]
    for address in (configuration.listen.resolve, configuration.listen.write, configuration.listen.push):
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        if not configuration.listen.local:
            places.append(("0.0.0.0" if host == "*" else host.strip("[]"), int(port)))
    for host, number in places:
        problem = bind_errno(host, number)
        if problem == errno.EADDRINUSE:
            found.append(
                Finding(f"{host}:{number} is in use", "none if this directory runs; else see ss -ltnp")
            )
        elif problem:
            raise DirectoryError(
                f"{host}:{number} cannot be listened on: {os.strerror(problem)}", "ip -brief address", 2
            )
    return found


def check_places(configuration: Configuration, config: str) -> list[Finding]:
    """Find, or raise DirectoryError for directories that are not there or cannot be written to."""
    found = []
    audit, store = configuration.audit_file, configuration.store_path
    if audit is not None and not audit.parent.is_dir():
        raise DirectoryError(
            f"[audit] file: there is no directory {audit.parent}", f"mkdir -p {audit.parent}", 2
        )
    if store is None:
        return []
    if not store.parent.is_dir():
        text = f"[store] path: there is no directory {store.parent}"
        found.append(Finding(text, f"vnet-directory init {config} makes it, and the store"))
    elif not store.exists():
        found.append(Finding(f"there is no store in {store} yet", f"vnet-directory init {config}"))
    for what, path in (("[audit] file", audit), ("[store] path", store)):
        if path is not None and path.parent.is_dir() and not os.access(path.parent, os.W_OK):
            fix = "run as its user, or chown the directory to it"
            found.append(Finding(f"{what}: you may not write in {path.parent}", fix))
    return found


def check_store(configuration: Configuration) -> Checked:
    """Read the store whole, replay its log, read its records, and see whether they fit together."""
    path = configuration.store_path
    if path is None:
        return Checked("in memory", [])
    if not path.exists() or not path.stat().st_size:
        return Checked(f"in {path}", [])  # check_places has said so
    if not os.access(path, os.R_OK):
        return Checked(f"in {path}", [Finding(f"{path}: you may not read it", "run as its user, or as root")])
    try:
        looked = look(path)
        findings = [
            *(Finding(f"{path}: {text}", fix, True) for text, fix in looked.problems),
            *(Finding(f"{path}: {text}", fix) for text, fix in looked.notes),
        ]
        if not looked.problems:
            findings += _check_records(_snapshot_of(looked))
    except StoreError as error:
        return Checked(f"in {path}", [Finding(str(error), RESTORE, True)])
    realm = (
        "" if looked.world is None else f": realm {format_realm(looked.world.realm)}, era {looked.world.era}"
    )
    return Checked(f"in {path}{realm}, revision {looked.revision}", findings)


def _snapshot_of(looked: Looked) -> Snapshot:
    changes = (Change(item.key, None, item) for item in looked.items if is_record_key(item.key))
    return empty_snapshot().with_changes(looked.revision, changed_records(changes), 0)


def _check_records(snapshot: Snapshot) -> list[Finding]:
    """Find the records that carry nothing: those that cannot be read, and those that do not fit."""
    unreadable = snapshot.unreadable()
    if not unreadable:  # else what others say of them would be taken to be said of nothing
        faults = (
            Finding(f"{fault.key} does not fit: {fault.problem}", fault.fix or "vnetctl show, and correct it")
            for fault in find_faults(snapshot.records)
        )
        return _shortened(faults, "that do not fit")
    cannot = (
        Finding(
            f"{key} cannot be read: {why}; it carries nothing",
            "run the release that wrote it, or set it again",
        )
        for key, why in sorted(unreadable.items())
    )
    return _shortened(cannot, "that cannot be read")


def _shortened(findings: Iterable[Finding], what: str) -> list[Finding]:
    """Return the first findings, and how many more there are."""
    all_of_them = list(findings)
    shown = all_of_them[:SHOWN]
    if len(all_of_them) > SHOWN:
        shown.append(Finding(f"{len(all_of_them) - SHOWN} more {what}", shown[-1].fix))
    return shown
