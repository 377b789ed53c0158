# SPDX-License-Identifier: Apache-2.0
"""What control has to do with the directory: questions, what it is asked, and what it tells of servers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import zmq

from directory_client.client import DirectoryClient
from directory_client.events import Answered, Asked, Failed, Progressed, ServerChanged
from directory_client.keys import client_keys
from directory_client.realm import RealmPin
from gateway.processes.instance import instance
from gateway.state.events import change_text
from gateway.state.job import Answer, AskDirectory, Done, Job, Progress, Refused
from gateway.state.state import DirectoryServer, State

log = logging.getLogger(__name__)

SILENT_TIMEOUT_S = 2.0  # for a directory that does not answer anyway

# A request of an operator elsewhere, and what its answer is given to.
Handle = Callable[[dict[str, Any], Callable[[Answer], None]], None]


class DirectoryLink:
    """Control's connection to its directory. `handle` serves what it asks for operators elsewhere."""

    def __init__(self, state: State, context: zmq.Context[Any], handle: Handle) -> None:
        self._state = state
        self._handle = handle
        self._questions: dict[int, Done] = {}
        self._revision_seen: int | None = None
        self._notices_told: set[tuple[str, str]] = set()
        self._told_lost: dict[str, str] = {}  # endpoint → why it was lost, which was an event
        configuration = state.configuration
        identity = configuration.identity
        keys = client_keys(identity.key_file, identity.directory_public_key) if identity else None
        self._client = DirectoryClient(
            configuration.directory_endpoints,
            node=configuration.name,
            role="control",
            instance=instance(configuration.runtime_dir),
            keys=keys,
            context=context,
            pin=RealmPin(configuration.realm_file),
        )
        self._client.serve()
        self._eras: dict[int, float] = {}  # incarnation → when it was first heard that it had begun
        state.servers = self._servers

    @property
    def sockets(self) -> list[zmq.Socket[Any]]:
        """What to poll for reading."""
        return self._client.sockets

    @property
    def has_seen_a_revision(self) -> bool:
        """Whether `new_documents` knows from which revision on it is to look."""
        return self._revision_seen is not None

    def timeout_ms(self) -> int:
        """Return after what time `hear` has something to do."""
        return self._client.timeout_ms()

    def accept_server_keys(self, publics: Sequence[str]) -> None:
        """Take other public keys of the directory."""
        self._client.accept_server_keys(publics)

    def say(self, locators: list[str], ports: list[str]) -> None:
        """Tell which locators and ports this node has."""
        self._client.set_heartbeat(locators=locators, ports=ports)

    def close(self) -> None:
        """Say goodbye, and close."""
        self._client.goodbye()
        self._client.close()

    def ask(self, asked: AskDirectory, done: Done) -> None:
        """Ask something; `done` is called with what comes of it."""
        present = {key: value for key, value in asked.fields.items() if value is not None}
        answering = self._state.active_server() is not None
        timeout_s = asked.timeout_s if answering else min(asked.timeout_s, SILENT_TIMEOUT_S)
        identity = self._client.send(asked.type, timeout_s=timeout_s, **present)
        self._questions[identity] = done

    def hear(self) -> None:
        """Take what has come."""
        for event in self._client.receive():
            if isinstance(event, Answered):
                done = self._questions.pop(event.id, None)
                if done is not None:
                    done(event.head)
            elif isinstance(event, Progressed):
                done = self._questions.get(event.id)
                if done is not None:
                    done(Progress(event.seconds, event.before))
            elif isinstance(event, Failed):
                done = self._questions.pop(event.id, None)
                if done is not None:
                    done(Refused(event.error, event.fix, event.code))
            elif isinstance(event, Asked):
                self._handle(event.request, self._answer_to(event))
            elif isinstance(event, ServerChanged):
                self._server_changed(event)

    def tell_notices(self) -> None:
        """Make an event and a log line of what a directory says of this gateway, once for each."""
        said = {(n.why, n.text) for server in self._state.servers() for n in server.notices}
        said |= {
            ("era", f"{one.name} is in era {one.era}: {one.era_began}")
            for one in self._client.servers()
            if one.era_began and not one.refused
        }
        said |= {
            ("problem", f"{one.name or one.endpoint}: {one.problem}")
            for one in self._state.servers()
            if one.problem and one.problem != self._told_lost.get(one.endpoint)
        }
        for _, text in sorted(said - self._notices_told):
            self._state.events.add("directory_notice", text)
            log.warning("directory: %s", text)
        self._notices_told = said

    def new_documents(self) -> Job | None:
        """Return a job that makes events of what was changed since it was last asked; None: the
        directory's revision stands still. It is asked for when somebody looks at the events."""
        server = self._state.active_server()
        if server is None or server.revision == self._revision_seen:
            return None
        before, self._revision_seen = self._revision_seen, server.revision
        if before is None or server.revision < before:
            return None
        return self._read_documents(before)

    def _read_documents(self, before: int) -> Job:
        answer = yield AskDirectory("history", {"document": None, "limit": 20}, 2.0)
        for row in reversed(answer.get("rows", [])):
            if row.get("revision", 0) > before:
                at_s = row.get("time")
                self._state.events.add(*change_text(row), at_s if isinstance(at_s, (int, float)) else None)
        return {}

    def _answer_to(self, asked: Asked) -> Callable[[Answer], None]:
        return lambda answer: self._client.answer(asked, answer)

    def _server_changed(self, event: ServerChanged) -> None:
        if event.up:
            self._told_lost.pop(event.endpoint, None)
            self._state.events.add("directory_found", f"directory {event.endpoint} answers")
        else:
            self._told_lost[event.endpoint] = event.why
            now = f"{event.active} is used now" if event.active else "none answers"
            why = event.why or "does not answer"
            self._state.events.add("directory_lost", f"directory {event.endpoint}: {why}; {now}")
            log.warning("directory %s: %s; %s", event.endpoint, why, now)

    def _servers(self) -> list[DirectoryServer]:
        servers, now = self._client.servers(), self._state.clock()
        began = [one.incarnation for one in servers if one.era_began and not one.refused]
        self._eras = {incarnation: self._eras.get(incarnation, now) for incarnation in began}
        return [
            DirectoryServer(
                health.name,
                health.endpoint,
                health.state,
                health.active and health.state in ("up", "late"),
                health.revision,
                health.rtt_us,
                health.silent_s,
                health.failures,
                health.problem,
                health.fix,
                health.notices,
                health.incarnation,
                health.key,
                health.era,
                "" if health.refused else health.era_began,
                now - self._eras.get(health.incarnation, now),
            )
            for health in servers
        ]
