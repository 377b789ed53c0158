# SPDX-License-Identifier: Apache-2.0
"""Reading gateway.toml again: what each process takes, what waits, and that a wrong file changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from directory_client.process.restart import restart_command
from directory_client.toml.changes import Change, compare
from gateway.configuration.configuration import Configuration
from gateway.configuration.reader import ConfigurationError, load
from gateway.control import reloading as control
from gateway.processes.reloading import (
    LIVE,
    USES,
    Reloading,
    after_reading,
    read_in_force,
    used_by,
    values_of,
)
from gateway.state.job import AskDirectory, Refused, Wait
from vnetctl.reload import changes_of, commands_of

FILE = """
name        = "gw1"
directory   = "embedded"
runtime_dir = "{run}"
state_dir   = "{run}"
{more}

[port.uplink]
device    = "net_tap0,iface=up0"
role      = "underlay"
addresses = ["192.0.2.1/24"]
"""


@pytest.fixture(autouse=True)
def _the_log_stays_pytest_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.processes.reloading.configure_log", lambda *_: None)


NAMES = ("data-plane", "data-plane-1", "slow-path-0", "parent")


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Configuration]:
    def write(more: str = "", **changes: str) -> Configuration:
        text = FILE.format(run=tmp_path, more=more)
        for before, after in changes.items():
            text = text.replace(before, after)
        (tmp_path / "gateway.toml").write_text(text)
        return load(tmp_path / "gateway.toml")

    return write


def keys(changes: Any) -> list[str]:
    return [change.key for change in changes]


def test_every_key_of_the_file_is_some_process_s(write) -> None:
    values = values_of(write())

    used = {key for kind in USES for key in used_by(kind, values)}

    # What no process reads at all, or only to find its own files.
    assert set(values) - used == set()


def test_every_key_that_says_it_is_live_is_taken_by_some_process(write) -> None:
    before = write()
    hold = replace(before.hold, packets=9_000, packets_per_vnet=7, packets_per_ingress=7, packets_per_flow=7)
    after = replace(before, hold=replace(hold, wait_ms=70, misses_per_ingress_s=7))
    after = replace(after, threads=replace(after.threads, idle="spin", max_sleep_us=7))
    after = replace(after, log=replace(after.log, level="debug"))

    taken = set()
    for kind in USES:
        in_force, wanted = used_by(kind, values_of(before)), used_by(kind, values_of(after))
        took = after_reading(kind, in_force, wanted)
        taken |= set(keys(compare(in_force, took)))

    assert taken == {change.key for change in compare(values_of(before), values_of(after))}


def test_what_is_not_live_stays_in_force_and_waits_until_the_process_starts_anew(write) -> None:
    reloading = Reloading("control", write(), command="restart me")
    write('site = "ams"\n[metrics]\nlisten = "127.0.0.1:9464"', **{"192.0.2.1": "192.0.2.2"})

    first, second = reloading.reload(), reloading.reload()

    assert keys(first.taken) == ["site", "metrics.listen"]
    assert keys(first.waiting) == ["port.uplink.addresses", "locators"]
    assert not second.taken
    assert keys(second.waiting) == keys(first.waiting)
    assert second.row()["command"] == "restart me"
    assert not Reloading("control", load(reloading._configuration.path)).reload().waiting


def test_the_keys_of_directories_that_are_accepted_are_taken_while_it_runs(write) -> None:
    identity = '[identity]\nkey_file = "gw1.key"\ndirectory_public_key = '
    one, other = "a" * 40, "b" * 40
    for process in ("control", "slow-path-0"):
        taken: list[Configuration] = []
        reloading = Reloading(process, write(f'{identity}"{one}"'), taken.append)
        write(f'{identity}["{one}", "{other}"]')
        reloaded = reloading.reload()
        assert keys(reloaded.taken) == ["identity.directory_public_key"]
        assert not reloaded.waiting
        assert taken[0].identity is not None
        assert taken[0].identity.directory_public_key == (one, other)


def test_a_poll_thread_that_waits_for_interrupts_began_so(write) -> None:
    reloading = Reloading("data-plane", write())
    write('[threads]\nidle = "interrupt"\nmax_sleep_us = 7')

    reloaded = reloading.reload()

    assert keys(reloaded.taken) == ["threads.max_sleep_us"]
    assert keys(reloaded.waiting) == ["threads.idle"]


def test_a_wrong_file_is_refused_whole_and_changes_nothing(write, tmp_path: Path, caplog) -> None:
    taken: list[Configuration] = []
    reloading = Reloading("slow-path-0", write(), taken.append)
    before = read_in_force(tmp_path, "slow-path-0")
    text = FILE.format(run=tmp_path, more='[hold]\nwait_ms = 70\npackets = "x"\n[log]\nlevel = "loud"')
    (tmp_path / "gateway.toml").write_text(text)

    with pytest.raises(ConfigurationError) as raised:
        reloading.reload()
    reloading.on_signal()

    assert {problem.key for problem in raised.value.problems} == {"hold.packets", "log.level"}
    assert {record.args[0].key for record in caplog.records} == {"hold.packets", "log.level"}
    assert taken == []
    assert read_in_force(tmp_path, "slow-path-0") == before


def test_what_a_process_cannot_take_now_is_taken_by_nobody(write, tmp_path: Path) -> None:
    def refuse(_: Configuration) -> None:
        raise Refused("the port is taken", "ss -ltnp")

    reloading = Reloading("control", write(), refuse)
    write('site = "ams"')

    with pytest.raises(Refused):
        reloading.reload()

    said = read_in_force(tmp_path, "control")
    assert said is not None
    assert said.values["site"] == "none"


# ---- vnetctl reload: control asks all others -----------------------------------------------------


class Gateway:
    """Processes that read the file again when they are told to, but for those that are deaf."""

    def __init__(self, configuration: Configuration, deaf: tuple[str, ...] = ()) -> None:
        self.processes = {name: Reloading(name, configuration) for name in (*NAMES, "control")}
        self.configuration = configuration
        self.deaf = deaf
        self.told: list[str] = []
        self.now = 0.0

    def tell(self, _: Configuration, name: str) -> bool:
        self.told.append(name)
        if name not in self.deaf:
            self.processes[name].reload()
        return True

    def reload(self, directory: Any = None) -> dict[str, dict[str, Any]]:
        job = control.reload(
            self.processes["control"], self.configuration, lambda: self.now, tell_process=self.tell
        )
        answer: Any = None
        try:
            while True:
                asked = job.send(answer) if answer is not None else next(job)
                if isinstance(asked, Wait):
                    self.now += asked.seconds
                    answer = {}
                else:
                    assert asked == AskDirectory("reload", {}, control.DIRECTORY_S)
                    answer = directory or {"process": "directory", "file": "", "taken": [], "waiting": []}
        except StopIteration as stop:
            return {row["process"]: row for row in stop.value["rows"]}


def test_reload_says_of_each_process_what_it_took_and_what_waits_there(write) -> None:
    gateway = Gateway(write())
    write('[capacity]\nflows = 1024\n[log]\nlevel = "debug"')

    rows = gateway.reload()

    assert set(rows) == {"control", *NAMES, "directory"}
    for name in ("control", *NAMES):
        assert [change["key"] for change in rows[name]["taken"]] == ["log.level"]
    waits = {name for name, row in rows.items() if row["waiting"]}
    assert waits == {"data-plane", "data-plane-1"}


def test_a_process_that_started_after_the_change_has_nothing_to_wait_for(write, tmp_path: Path) -> None:
    gateway = Gateway(write())
    changed = write("[capacity]\nflows = 1024")
    gateway.processes["data-plane-1"] = Reloading("data-plane-1", changed)
    gateway.processes["control"] = Reloading("control", changed)

    rows = gateway.reload()

    assert [change["key"] for change in rows["data-plane"]["waiting"]] == ["capacity.flows"]
    assert rows["data-plane-1"]["waiting"] == []


def test_the_parent_is_told_only_if_there_is_something_for_it(write) -> None:
    gateway = Gateway(write())
    write("[hold]\nwait_ms = 70")
    rows = gateway.reload()
    assert "parent" not in gateway.told
    assert rows["parent"]["taken"] == rows["parent"]["waiting"] == []
    write('[log]\nlevel = "debug"')
    gateway.reload()
    assert gateway.told.count("parent") == 1


def test_a_process_that_does_not_say_is_named_and_keeps_nobody_waiting(write) -> None:
    gateway = Gateway(write(), deaf=("slow-path-0",))
    write("[hold]\nwait_ms = 70")

    rows = gateway.reload()

    assert "did not say" in rows["slow-path-0"]["problem"]
    assert gateway.now <= control.PATIENCE_S + 1
    assert [change["key"] for change in rows["data-plane"]["taken"]] == ["hold.wait_ms"]


def test_a_wrong_file_bothers_nobody_and_all_its_mistakes_are_told(write, tmp_path: Path) -> None:
    gateway = Gateway(write())
    text = FILE.format(run=tmp_path, more='[hold]\npackets = "x"\n[log]\nlevel = "loud"')
    (tmp_path / "gateway.toml").write_text(text)

    with pytest.raises(Refused) as raised:
        gateway.reload()

    assert "hold.packets" in raised.value.error
    assert "log.level" in raised.value.error
    assert raised.value.code == 2
    assert gateway.told == []


def test_vnetctl_names_a_change_once_with_all_who_took_it() -> None:
    change = Change("log.level", "info", "debug").row()
    wide = Change("capacity.flows", "1", "2").row()
    rows = [
        {"process": "control", "taken": [change], "waiting": [], "command": ""},
        {"process": "data-plane", "taken": [change], "waiting": [wide], "command": "kill 7"},
    ]

    shown = changes_of(rows)

    assert [(row["key"], row["outcome"], row["processes"]) for row in shown] == [
        ("log.level", "taken", ["control", "data-plane"]),
        ("capacity.flows", "waits for a restart", ["data-plane"]),
    ]
    assert commands_of(rows)[-1] == "  data-plane  kill 7"


def test_the_command_to_restart_is_the_unit_s_under_systemd_else_the_process_s(tmp_path: Path) -> None:
    cgroup = tmp_path / "cgroup"
    cgroup.write_text("0::/system.slice/vnet-dir2.service\n")
    environment = {"NOTIFY_SOCKET": "/run/systemd/notify"}
    assert restart_command("vnet-directory", environment, cgroup) == "systemctl restart vnet-dir2"
    assert restart_command("vnet-directory", environment, tmp_path / "none").endswith(" vnet-directory")
    assert restart_command("vnet-directory", {}, cgroup).startswith("kill ")


def test_what_the_configuration_marks_as_live_is_what_processes_take(write) -> None:
    configuration = write()
    live = tuple(name for names in LIVE.values() for name in names)
    for section in (configuration, *vars(configuration).values()):
        if not is_dataclass(section) or isinstance(section, type):
            continue
        prefix = "" if section is configuration else f"{section_name(configuration, section)}."
        for item in fields(section):
            if is_dataclass(getattr(section, item.name)):
                continue
            key = prefix + item.name
            is_taken = any(key == name or key.startswith(f"{name}.") for name in live)
            assert is_taken == bool(item.metadata.get("live")), key


def section_name(configuration: Configuration, section: object) -> str:
    return next(name for name, value in vars(configuration).items() if value is section)


def test_live_is_part_of_what_is_read() -> None:
    for kind, live in LIVE.items():
        for name in live:
            assert any(name == used or name.startswith(f"{used}.") for used in USES[kind]), (kind, name)
