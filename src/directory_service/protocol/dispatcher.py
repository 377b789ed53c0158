# SPDX-License-Identifier: Apache-2.0
"""Take a message, return what to do: the directory's protocol without sockets.

    outs = dispatcher.handle(peer, frames, now, waited_s)
    outs = dispatcher.tick(now)                     # when due_at has come

A pure function of state (Directory, gateways, what waits), input and time. Whatever a message does wrong is
answered and counted; the next message is served as if nothing had been.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from directory_client.toml.changes import Reloaded
from directory_client.wire.answers import Answer
from directory_client.wire.messages import (
    DirectoryError,
    Envelope,
    MalformedMessage,
    UnknownType,
    encode,
    read,
    read_envelope,
)
from directory_client.wire.requests import REQUESTS, NamesRequest, ReloadRequest
from directory_service.configuration import Configuration
from directory_service.protocol.audit import AuditFile
from directory_service.protocol.authentication import Identity
from directory_service.protocol.desk import Desk
from directory_service.protocol.gateways import Gateways
from directory_service.protocol.gathering import Waiting
from directory_service.protocol.jobs import Done, Jobs, refuse
from directory_service.protocol.naming import Naming
from directory_service.protocol.outbox import Audit, Out, Peer, Publish, Reply
from directory_service.protocol.publisher import Publisher, node_of
from directory_service.protocol.reading import NotItsKey, Reading
from directory_service.protocol.rights import Rights, Scope, right_of
from directory_service.protocol.snapshots import Snapshots
from directory_service.protocol.writing import Writing
from directory_service.refused import Refused
from directory_service.service import Directory
from directory_service.store.contract import StoreError

log = logging.getLogger(__name__)

POLL_STORE_S = 0.25  # others may write to the same store


class Dispatcher:
    """One directory server. `epoch` is new at every start; `wall_ms` is Unix time for what is shown and
    sent. With `jobs_elsewhere` whoever drives it does what waits at `desk`; else it is done at once."""

    def __init__(
        self,
        configuration: Configuration,
        directory: Directory,
        epoch: int,
        started_at: float,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        poll_store_s: float = POLL_STORE_S,
        audit: AuditFile | None = None,
        jobs_elsewhere: bool = False,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self.directory = directory
        self.gateways = Gateways(
            configuration.node_s, started_at, directory.note_heard, lambda: directory.world.incarnation
        )
        self.publisher = Publisher(epoch)
        self._wall_ms = wall_ms
        self._waiting = Waiting(self.gateways, directory.never_heard)
        self._poll_at = 0.0
        self._poll_store_s = poll_store_s
        self._rights = Rights(directory)
        self._document_bytes = configuration.limits.document_bytes
        do = None if jobs_elsewhere else Jobs(directory.editor, self._rights).do
        self._snapshots = Snapshots()
        self.desk = Desk(do, configuration.limits.document_bytes)
        self._name = configuration.name
        self.reload: Callable[[], Reloaded] | None = None  # reads directory.toml again
        self._channels: dict[str, Any] = {
            "resolve": Reading(
                configuration,
                directory,
                self.gateways,
                self.publisher,
                self._waiting,
                self.counters,
                self._snapshots,
            ),
            "write": Writing(
                configuration,
                directory,
                self.gateways,
                self._waiting,
                self.counters,
                started_at,
                wall_ms,
                audit,
                self._rights,
                self.desk,
            ),
        }
        self._naming = Naming()
        self._channels["write"].handlers |= {"reload": self._reload, "names": self._names}

    def take(self, configuration: Configuration) -> None:
        """Take what may change while it runs (configuration.live_part)."""
        self.directory.take(configuration.settings, configuration.node_s)
        self.gateways.wait_for_silent(configuration.node_s)
        for channel in self._channels.values():
            channel.take(configuration)

    def handle(self, peer: Peer, frames: Sequence[Any], now: float, waited_s: float = 0.0) -> list[Out]:
        """Serve one message that has waited for `waited_s`."""
        envelope = Envelope()
        try:
            envelope = read_envelope(frames, self._document_bytes)
            outs = self._serve(peer, envelope, frames, now, waited_s)
        except Exception as error:  # one request must not end the service for the others
            outs = [Reply(peer.channel, peer.connection, encode(self._refusal(error, envelope)))]
        if peer.channel == "resolve" and envelope.type != "heartbeat" and not self.directory.has_news:
            return outs  # it changes nothing
        # Pushes first, whatever became of the message: nobody may learn of a revision before it is numbered.
        return self._pushes(look=False) + outs

    def done(self, number: int, done: Done, now: float) -> list[Out]:
        """Take what came of a job that was carried away."""
        pushes = self._pushes() if done.revision > self.directory.revision else []
        return pushes + self.desk.done(number, done, self.directory.revision, now)

    def taken_up(self, now: float) -> list[Out]:
        """Look at once what has been taken up from the store meanwhile."""
        pushes = self._pushes()
        return pushes + self.desk.taken_up(self.directory.revision, now)

    def subscription(self, identity: Identity, topic: bytes) -> tuple[bool, list[Out]]:
        """Take a subscription; returns whether it is granted, and what to send then."""
        if identity.role == "gateway" and not self._owns(identity.name, topic):
            self.counters["subscriptions_refused"] += 1
            return False, []
        node_id = self.publisher.subscribed(topic)
        return True, [self._heartbeat(node_id)] if node_id else []

    def due_at(self) -> float:
        """Return when `tick` has something to do."""
        due = [self.publisher.due_at(), self._poll_at]
        if (at := self._waiting.due_at()) is not None:
            due.append(at)
        return min(due)

    @property
    def has_work(self) -> bool:
        """Whether `work` has something to do."""
        return self._snapshots.has_work and not self.directory.is_hearing

    def work(self, now: float) -> list[Out]:
        """Do a piece of what takes longer, some milliseconds of it. Call it after whatever else there was."""
        return self._snapshots.work(now)

    @property
    def has_to_learn(self) -> bool:
        """Whether `learn_ahead` has something to do."""
        return self.directory.has_to_learn

    def learn_ahead(self) -> None:
        """Use a quiet moment, some 0.4 ms of it, for what will be asked."""
        try:
            self.directory.learn_ahead()
        except Exception as error:  # what it failed on is left out; whoever asks about it is told
            self.counters["internal_errors"] += 1
            log.error("could not learn ahead", exc_info=error)

    def tick(self, now: float) -> list[Out]:
        """Let time pass: heartbeats, deadlines, and commits that others made in the same store."""
        outs: list[Out] = []
        if now >= self._poll_at:
            self._poll_at = now + self._poll_store_s
            outs += self.taken_up(now)
        outs += [self._heartbeat(node_id) for node_id in self.publisher.nodes_due(now)]
        outs += self.desk.progress(now)
        self._snapshots.tick(now)
        ended = self._waiting.tick(now)
        return outs + (self._pushes() + ended if ended else [])

    def _serve(
        self, peer: Peer, envelope: Envelope, frames: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        kind = envelope.type
        channel = self._channels[peer.channel]
        handler = channel.handlers.get(kind)
        if handler is None:
            known = ", ".join(sorted(channel.handlers))
            raise UnknownType(f"the {peer.channel} socket knows no type {kind!r:.40}", f"one of {known}")
        self.counters[f"requests_{kind}"] += 1
        self._rights.check_rate(peer.identity, kind, now)
        head = read(frames[0], REQUESTS[kind], kind, envelope.id)
        self._rights.check(peer.identity, kind, head)
        outs: list[Out] = handler(peer, head, frames[1:], now, waited_s)
        return outs

    def _names(
        self, peer: Peer, head: NamesRequest, parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        """Say what is called how: at once, since it costs next to nothing. Who says as which node it asks is
        told if its key is another's: so `vnet-gateway check` finds out, without being taken for the node."""
        if head.node and not peer.identity.may_be_node(head.node):
            raise NotItsKey(peer.identity.name, head.node)
        may_see = None
        if right_of(peer.identity, "names").scope is Scope.HOSTED:
            may_see = partial(self.directory.hosted, peer.identity.name)
        found = self._naming.names(self.directory.current, head.ids, may_see)
        answer = {"names": found, "revision": self.directory.revision, "id": head.id, "ok": True}
        return [Reply(peer.channel, peer.connection, encode(answer))]

    def _reload(
        self, peer: Peer, head: ReloadRequest, parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        """Have the file read again; who may connect is part of it, so it leaves a trace."""
        if not peer.identity.may_write():
            raise DirectoryError(
                f"the key of gateway {peer.identity.name} may not have the directory reload its file",
                "vnetctl --directory … reload with an operator's key, or SIGHUP on its machine",
            )
        if self.reload is None:
            raise DirectoryError("this directory reads no file again", "restart it")
        reloaded = self.reload()
        record = {
            "time_ms": self._wall_ms(),
            "stage": "done",
            "directory": self._name,
            "who": peer.identity.name,
            "role": peer.identity.role,
            "type": "reload",
            "taken": [str(change) for change in reloaded.taken],
        }
        answer = {**reloaded.row(), "id": head.id, "ok": True}
        traces: list[Out] = [Audit(record)] if reloaded.taken else []
        return [*traces, Reply(peer.channel, peer.connection, encode(answer))]

    def _pushes(self, look: bool = True) -> list[Out]:
        try:
            pushes = self.directory.poll(look)
        except StoreError as error:
            self.counters["store_errors"] += 1
            log.error("the store cannot be read: %s", error)
            return []
        versions = {
            revision: self.directory.version(revision) for revision in {push.revision for push in pushes}
        }
        publish = self.publisher.publish
        last = {(push.node_id, push.revision): number for number, push in enumerate(pushes)}
        return [
            Publish(publish(push, versions[push.revision], last[push.node_id, push.revision] == number))
            for number, push in enumerate(pushes)
        ]

    def _heartbeat(self, node_id: int) -> Publish:
        return Publish(self.publisher.heartbeat(node_id, self.directory.version(), self._wall_ms()))

    def _owns(self, node: str, topic: bytes) -> bool:
        try:
            return node_of(topic) == self.directory.node_id(node)
        except Refused:
            return False

    def _refusal(self, error: Exception, envelope: Envelope) -> Answer:
        counted, answer = refuse(error, envelope.type)
        answer.id = envelope.id
        if isinstance(error, MalformedMessage) and answer.id is None:
            answer.id = error.id
        self.counters[counted] += 1
        return answer
