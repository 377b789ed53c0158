# SPDX-License-Identifier: Apache-2.0
"""Whom vnetctl asks: a gateway's admin socket, or a directory where there is no gateway."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from directory_client.vocabulary.verbs import SHOWING
from directory_client.wire.limits import ANSWER_BYTES_MAX, PROGRESS_BYTES_MAX
from vnetctl.errors import REFUSED, SILENT, WRONG_INPUT, Failure

VERSION = 1
TIMEOUT_S = 12.0
SLOW_TIMEOUT_S = 35.0
_NOBODY = "look whether the name or address is right, at the routes and firewalls between, and at its log"

Answer = dict[str, Any]


class Progress:
    """A line on a terminal's standard error that says that something takes long; gone in the end."""

    def __init__(self) -> None:
        self._is_shown = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def show(self, seconds: int, before: int) -> None:
        """Say for how long it has taken, and how many requests are done before it."""
        if not sys.stderr.isatty():
            return
        behind = f", {before} before it" if before else ""
        sys.stderr.write(f"\r\x1b[Kthe directory is at it: {seconds} s{behind}")
        sys.stderr.flush()
        self._is_shown = True


class Client(Protocol):
    def ask(self, request: dict[str, Any], timeout_s: float = TIMEOUT_S) -> Answer:
        """Return the answer to an admin request. Raises Failure: refused (its own code) or silent (3)."""


class GatewayClient:
    """Asks a gateway at its admin socket. `paths` are tried in order; the first that is there is used."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._id = 0

    def ask(self, request: dict[str, Any], timeout_s: float = TIMEOUT_S) -> Answer:
        import msgspec  # what only a question needs is loaded with the question: --help is there at once
        import zmq

        from directory_client.wire.admin import AdminRequest

        path = self._reachable(request)
        self._id += 1
        context: zmq.Context[Any] = zmq.Context()
        dealer: zmq.Socket[Any] = context.socket(zmq.DEALER)
        dealer.set(zmq.LINGER, 0)
        dealer.set(zmq.MAXMSGSIZE, ANSWER_BYTES_MAX)
        try:
            dealer.connect(f"ipc://{path}")
            asked = AdminRequest(v=VERSION, id=self._id, **request)
            dealer.send(msgspec.msgpack.encode(asked))
            with Progress() as progress:
                while True:
                    if not dealer.poll(int(timeout_s * 1000)):
                        raise Failure(
                            f"the gateway at {path} did not answer within {timeout_s:.0f} s",
                            "systemctl status vnet-gateway",
                            SILENT,
                        )
                    data = dealer.recv()
                    told = progress_of(data)
                    if told is None:
                        return accept(data, path)
                    progress.show(*told)
        finally:
            dealer.close()
            context.term()

    def _reachable(self, request: dict[str, Any]) -> Path:
        """Return the first socket where somebody listens. ZeroMQ itself would wait for one to appear."""
        import socket

        failures: list[tuple[Path, int]] = []
        for path in self._paths:
            if path.name == "show.sock" and request.get("verb") not in SHOWING:
                continue
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                code = probe.connect_ex(os.fspath(path))
            if code == 0:
                return path
            failures.append((path, code))
        denied = [path for path, code in failures if code in (errno.EACCES, errno.EPERM)]
        if denied:
            group = "vnet-admin" if request.get("verb") not in SHOWING else "vnet"
            raise Failure(
                f"you may not use {denied[0]}",
                f"sudo vnetctl …    or join its group (often {group})",
                REFUSED,
            )
        place = failures[-1][0] if failures else "show.sock"
        raise Failure(
            f"no gateway answers at {place}",
            "systemctl status vnet-gateway    or name one: vnetctl --socket PATH …, vnetctl --at NODE …",
            SILENT,
        )


class DirectoryOnly:
    """Asks a directory: its own nouns and changes, and through it any gateway (`at`)."""

    def __init__(self, endpoints: Sequence[str], key_file: str | None, directory_key: str | None) -> None:
        from directory_client.client import DirectoryClient
        from directory_client.keys import client_keys
        from directory_client.wire.messages import DirectoryError

        if any(endpoint.startswith("tcp://") for endpoint in endpoints) and not (key_file and directory_key):
            raise Failure(
                "a directory on TCP asks for your key and for its own public key",
                "vnetctl --directory tcp://HOST:PORT --key-file FILE --directory-key 'PUBLIC KEY' …    "
                "a key of your own: vnet-directory keygen FILE",
                WRONG_INPUT,
            )
        try:
            keys = client_keys(key_file, (directory_key or "").split(",")) if key_file else None
            self._client = DirectoryClient(endpoints, keys=keys)
        except DirectoryError as error:
            raise Failure(error.error, error.fix, error.code) from error

    def ask(self, request: dict[str, Any], timeout_s: float = TIMEOUT_S) -> Answer:
        from directory_client.wire.messages import ASK_THE_GATEWAY, DirectoryError
        from directory_client.wire.operator_requests import DIRECTORY_NOUNS, message_of

        at, verb = request.get("at"), request.get("verb")
        try:
            if at is not None:
                inner = {"v": VERSION, **{key: value for key, value in request.items() if key != "at"}}
                return self._client.call("forward", timeout_s=timeout_s, node=at, request=inner)
            if verb == "show" and request.get("noun") == "directories":
                return self._client.call("list", timeout_s=timeout_s, kind="directories")
            if verb == "events" or (verb == "show" and request.get("noun") not in DIRECTORY_NOUNS):
                noun = request.get("noun")
                shown = "" if noun in (None, "overview") else f" {noun}"
                what = f"show{shown}" if verb == "show" else verb
                raise Failure(
                    f"{what}: a gateway answers that, not the directory",
                    f"vnetctl --at NODE {what}    or --at all",
                    WRONG_INPUT,
                )
            message = message_of(request)
            present = {key: value for key, value in message.fields.items() if value is not None}
            with Progress() as progress:
                answer = self._client.call(
                    message.type,
                    timeout_s=max(timeout_s, message.timeout_s),
                    progress=progress.show,
                    **present,
                )
        except DirectoryError as error:
            fix = _NOBODY if error.fix == ASK_THE_GATEWAY else error.fix  # no gateway is asked here
            raise Failure(error.error, fix, error.code) from error
        return {"rows": [answer], **answer} if verb == "explain" else answer


def progress_of(data: bytes) -> tuple[int, int] | None:
    """Return seconds and requests before, if this says that it takes long; None: it is an answer."""
    import msgpack

    if len(data) > PROGRESS_BYTES_MAX:
        return None
    try:
        told = msgpack.unpackb(data)["progress"]
        return int(told["seconds"]), int(told["before"])
    except (ValueError, TypeError, KeyError, msgpack.UnpackException):
        return None


def accept(raw: bytes, source: object) -> Answer:
    """Unpack and check an answer; raises Failure for refusals and for what is no answer."""
    import msgpack

    try:
        answer = msgpack.unpackb(raw, strict_map_key=False)
    except (ValueError, msgpack.UnpackException):
        answer = None
    if not isinstance(answer, dict) or answer.get("v") != VERSION:
        raise Failure(
            f"{source} sent something that is no answer",
            "install vnetctl and gateway of one release",
            REFUSED,
        )
    if not answer.get("ok"):
        raise refusal(answer)
    return answer


def refusal(answer: Answer) -> Failure:
    code = answer.get("code")
    known = code if code in (REFUSED, WRONG_INPUT, SILENT) else REFUSED
    return Failure(str(answer.get("error") or "refused"), str(answer.get("fix") or ""), known)
