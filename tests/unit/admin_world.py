# SPDX-License-Identifier: Apache-2.0
"""Control's admin, with a data plane and a directory that answer from tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gateway.configuration.configuration import Admin as AdminSection
from gateway.configuration.configuration import Configuration, Port
from gateway.control.admin import Admin
from gateway.state.events import Events
from gateway.state.job import AskDirectory, Refused
from gateway.state.state import DirectoryServer, State

TUNNELS = [
    {
        "tunnel": 1,
        "node_id": 22,
        "profile_id": 33,
        "local_locator": "192.0.2.1",
        "remote_locator": "203.0.113.7",
        "protocol": "vxlan",
        "mtu_bytes": 1500,
        "inner_mtu_bytes": 1450,
        "state": "up",
        "next_hops": [{"port": "uplink"}],
        "references": 3,
    },
    {
        "tunnel": 2,
        "node_id": 99,
        "profile_id": 33,
        "local_locator": "192.0.2.1",
        "remote_locator": "203.0.113.9",
        "protocol": "vxlan",
        "mtu_bytes": 1500,
        "inner_mtu_bytes": 1450,
        "state": "unresolved",
        "next_hops": [],
        "references": 1,
    },
]


def flow(source: str, destination: str, packets: int, **more: Any) -> dict[str, Any]:
    return {
        "vni": 7001,
        "source": source,
        "destination": destination,
        "source_port": None,
        "destination_port": None,
        "protocol": None,
        "class": "bridged",
        "level": "pair",
        "action": "encapsulate",
        "reason": None,
        "tunnel": 1,
        "revision": 42,
        "stale": False,
        "age_s": 1,
        "expires_in_s": 9,
        "packets": packets,
        "bytes": packets * 100,
        "ingress": 1,
        "source_object": 1,
        "destination_object": 2,
        **more,
    }


class World:
    """A data plane and a directory; both answer from tables, page by page."""

    def __init__(self, tmp_path: Path) -> None:
        self.now_s = 100.0
        port = Port("uplink", "net_tap0", "underlay", exception="uplink")
        section = AdminSection(tmp_path / "gateway.sock", tmp_path / "show.sock")
        configuration = Configuration(
            tmp_path / "gateway.toml", "gw1", tmp_path, tmp_path, {"uplink": port}, section, site="ams1"
        )
        self.state = State(configuration, "0.1", Events("gw1", clock=lambda: 1e9), lambda: self.now_s)
        self.state.greeting = {"ok": True}
        self.state.servers = lambda: [DirectoryServer("dir1", "ipc:///d", "up", True, 42, 300, 0.1, 0)]
        self.dumps: dict[str, list[dict[str, Any]]] = {
            "tunnels": TUNNELS,
            "vnets": [{"vni": 7001, "object_id": 1}],
            "flows": [],
            "ports": [],
        }
        self.counters: dict[str, Any] = {
            "counters": {"received": 10, "uptime_s": 5},
            "drops": [],
            "delay": {"sum_ns": 0, "buckets": []},
        }
        self.names = {1: "red", 22: "ber1", 33: "fabric"}
        self.directory_asked: list[AskDirectory] = []
        self.directory_answer: dict[str, Any] | Refused | None = None
        self.data_plane_gone = False
        self.late: list[Any] = []
        self.hold_answers = False
        self.admin = Admin(self.state, self.ask_data_plane, self.ask_directory)
        self.answers: list[dict[str, Any]] = []

    def ask_data_plane(self, question: dict[str, Any], done: Any) -> None:
        answer: Any
        if self.data_plane_gone:
            answer = Refused("the data plane has ended", "start it", 3)
        elif question["dump"] == "counters":
            answer = self.counters
        else:
            rows, cursor = self.dumps[question["dump"]], question.get("cursor") or 0
            vni = question.get("vni")
            page = [row for row in rows[cursor : cursor + 2] if vni is None or row.get("vni") == vni]
            answer = {"rows": page, "cursor": cursor + 2 if cursor + 2 < len(rows) else None}
        if self.hold_answers:
            self.late.append(lambda: done(answer))
        else:
            done(answer)

    def ask_directory(self, asked: AskDirectory, done: Any) -> None:
        self.directory_asked.append(asked)
        if asked.type == "names":
            done({"ok": True, "names": [self.names.get(one, "") for one in asked.fields["ids"]]})
        elif asked.type == "list":
            rows = [{"name": "red/web-1", "object_id": 5}] if asked.fields["kind"] == "endpoints" else []
            done({"ok": True, "rows": rows, "revision": 42})
        else:
            done(self.directory_answer if self.directory_answer is not None else {"ok": True})

    def ask(self, verb: str, may_change: bool = True, **request: Any) -> dict[str, Any]:
        before = len(self.answers)
        self.admin.handle(
            {"v": 1, "id": 7, "verb": verb, **request}, self.answers.append, may_change=may_change
        )
        assert len(self.answers) == before + 1, "no answer came"
        return self.answers[-1]

    def rows(self, noun: str, name: str | None = None, **args: Any) -> list[dict[str, Any]]:
        answer = self.ask("show", noun=noun, name=name, args=args)
        assert answer["ok"], answer
        return answer["rows"]
