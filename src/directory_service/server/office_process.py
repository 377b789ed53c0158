# SPDX-License-Identifier: Apache-2.0
"""The writer's and the reader's process: takes jobs over a socket, one at a time, until that is closed.

    python -m directory_service.server.office_process DESCRIPTOR

It ends with the server that started it, and leaves signals to that.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from typing import Any

from directory_client.process.log import configure_log
from directory_service.configuration import Configuration
from directory_service.editor import Editor
from directory_service.follower import Follower
from directory_service.heard import News
from directory_service.protocol.jobs import Job, Jobs
from directory_service.protocol.rights import Rights
from directory_service.server.clocks import steady_ms, wall_ms
from directory_service.server.frames import Link
from directory_service.store.contract import StoreError
from directory_service.store.sqlite import SqliteStore
from directory_service.views.steps import Said

log = logging.getLogger(__name__)

BUSY_MS = 12_000  # how long a write waits for the lock that another program holds: nobody waits with it
NICE = 5  # decisions come first
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve the socket named by the first argument."""
    link = Link(socket.socket(fileno=int(sys.argv[1])))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.nice(NICE)
    os.umask(0o027)
    waiting: list[Any] = []
    while not waiting:
        waiting = link.receive()
        if link.is_closed:
            return
    name, configuration, level, log_format = waiting.pop(0)
    configure_log(f"directory-{name}", level, log_format)
    try:
        _work(link, waiting, configuration)
    except StoreError as error:
        log.error("the store cannot be used: %s", error)
        sys.exit(1)


def _work(link: Link, waiting: list[Any], configuration: Configuration) -> None:
    assert configuration.store_path is not None
    store = SqliteStore(configuration.store_path, BUSY_MS)
    gc.disable()  # nearly all stays: looking at it again and again takes 40 % of an apply
    follower = Follower(store, wall_ms, steady_ms)
    gc.freeze()
    editor = Editor(follower, configuration.settings, wall_ms, steady_ms)
    jobs = Jobs(editor, Rights(follower))
    held: Mapping[str, Any] = {}
    while not link.is_closed:
        for message in waiting:
            if message[0] == "job":
                _, number, job, said = message
                if said is not None:
                    held = _take_said(follower, held, said)
                link.send((number, _do(jobs, follower, job)))
                gc.collect(1)  # what only this job had, errors with their documents above all
            elif message[0] == "settings":
                editor.take(message[1])
            else:
                _take_up(follower)
        waiting = link.receive()
    store.close()


def _do(jobs: Jobs, follower: Follower, job: Job) -> Any:
    _take_up(follower)
    begun = time.monotonic()
    done = jobs.do(job)
    if (took_s := time.monotonic() - begun) > 1.0:
        log.info("%s of %s took %.1f s", job.verb, job.identity.name, took_s)
    return done


def _take_up(follower: Follower) -> None:
    try:
        follower.take_up()
    except StoreError as error:  # the job says it too, where it matters
        log.error("the store cannot be read: %s", error)


def _take_said(follower: Follower, held: Mapping[str, Any], news: News) -> Mapping[str, Any]:
    held = {name: one for name, one in {**held, **news.presences}.items() if one is not None}
    follower.take_said(Said(held, news.serial, frozenset(news.presences), news.sightings))
    return held


if __name__ == "__main__":
    main()
