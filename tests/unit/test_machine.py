# SPDX-License-Identifier: Apache-2.0
"""What a configuration asks for against what a machine has; what init proposes; exit status."""

from __future__ import annotations

import fcntl
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from directory_client.vocabulary.addresses import NEVER_FORWARDED
from gateway.configuration import trying
from gateway.configuration.inventory import Adapter, Machine, look_around
from gateway.configuration.machine import find_doubts, find_problems
from gateway.configuration.proposal import propose
from gateway.configuration.reader import ConfigurationError, parse
from gateway.configuration.trying import ask_directories, find_twin
from gateway.main import main
from model import is_unicast

NIC = Adapter("0000:3b:00.0", "8086:1592", "vfio-pci")
MLX = Adapter("0000:5e:00.0", "15b3:101d", "mlx5_core", ("ens1",), True, 100_000)
MACHINE = Machine(
    host="gw1",
    adapters=(NIC, MLX),
    interfaces=frozenset({"lo", "eth0", "ens1"}),
    default_interfaces=frozenset({"eth0"}),
    cpus=(0, 1, 2, 3),
    isolated_cpus=(2, 3),
    available_bytes=8 << 30,
    is_net_admin=True,
    has_tun=True,
)
TEXT = """\
name = "gw1"
directory = "embedded"
[port.uplink]
device = "0000:3b:00.0"
role = "underlay"
addresses = ["192.0.2.1/24"]
[port.rack]
device = "0000:5e:00.0"
role = "inside"
"""


def problems(text: str, machine: Machine = MACHINE) -> list[str]:
    configuration, table = parse(text, Path("gateway.toml"))
    return [f"{p} → {p.fix}" for p in find_problems(configuration, table, machine)]


def test_machine_that_has_it_all_has_no_problems() -> None:
    assert problems(TEXT) == []


def test_adapter_that_is_not_there_names_those_that_are() -> None:
    assert problems(TEXT.replace("5e:00.0", "5e:00.1")) == [
        "gateway.toml line 8: port.rack.device: there is no network adapter 0000:5e:00.1"
        " → one of: 0000:3b:00.0, 0000:5e:00.0"
    ]


def test_adapter_that_linux_holds_says_how_to_get_it() -> None:
    machine = replace(MACHINE, adapters=(replace(NIC, driver="ice"), MLX))
    (problem,) = problems(TEXT, machine)
    assert "0000:3b:00.0 is held by ice" in problem
    assert "dpdk-devbind.py --bind=vfio-pci 0000:3b:00.0" in problem


@pytest.mark.parametrize(
    ("device", "sentence"),
    [
        ("net_af_packet0,iface=eth7", "there is no interface eth7"),
        ("net_af_packet0", "there is no interface iface=…"),
        ("net_pcap0,rx_pcap=/none.pcap", "there is no file /none.pcap"),
    ],
)
def test_virtual_device_needs_what_it_names(device: str, sentence: str) -> None:
    (problem,) = problems(TEXT.replace("0000:5e:00.0", device))
    assert sentence in problem


def test_tap_needs_privileges() -> None:
    machine = replace(MACHINE, is_net_admin=False)
    found = problems(TEXT.replace("0000:5e:00.0", "net_tap0,iface=t0"), machine)
    assert [p.split(": ")[1] for p in found] == ["port.uplink.role", "port.rack.device"]
    assert all("CAP_NET_ADMIN → run as root" in p for p in found)


def test_cpu_that_is_not_there() -> None:
    (problem,) = problems(TEXT + "[threads]\npoll_cpus = [2, 9]\n")
    assert problem == (
        "gateway.toml line 11: threads.poll_cpus: CPU 9 is not there or not online → CPUs here: 0, 1, 2, 3"
    )


def test_too_little_memory_says_what_would_fit_and_the_proposal_does() -> None:
    machine = replace(MACHINE, available_bytes=1 << 30)
    text = TEXT + "[capacity]\nflows = 10_000_000\n"

    (problem,) = problems(text, machine)
    assert "line 11: capacity.flows: 10_000_000 needs 1.8 GB of memory, 1.1 GB are free" in problem
    fits = problem.rpartition("flows = ")[2]

    assert problems(text.replace("10_000_000", fits), machine) == []


def test_too_few_hugepages_say_how_many_to_have() -> None:
    machine = replace(MACHINE, hugepages={2 << 20: 10})
    (problem,) = problems(TEXT + '[memory]\nhugepages = "always"\n', machine)
    assert "of hugepages" in problem
    assert "sysctl vm.nr_hugepages=" in problem


def test_group_that_is_not_there() -> None:
    (problem,) = problems(TEXT + '[admin]\ngroup = "no-such-group"\n')
    assert problem.endswith('there is no group "no-such-group" → groupadd --system no-such-group')


@pytest.mark.parametrize(
    "machine",
    [MACHINE, replace(MACHINE, adapters=()), replace(MACHINE, adapters=(NIC,), host="GW_1.example")],
    ids=["two adapters", "none", "one, odd name"],
)
def test_proposal_is_good_for_the_machine_it_was_made_for(machine: Machine) -> None:
    assert problems(propose(machine), machine) == []


def test_proposal_leaves_out_what_carries_the_default_route() -> None:
    machine = replace(MACHINE, default_interfaces=frozenset({"ens1"}))
    text = propose(machine)
    assert "0000:5e:00.0  15b3:101d  driver mlx5_core, link up 100 Gb/s → left out (carries" in text
    assert 'device = "0000:5e:00.0"' not in text


def test_inventory_reads_a_machine(tmp_path: Path) -> None:
    device = tmp_path / "sys/bus/pci/devices/0000:3b:00.0"
    (device / "net/ens1").mkdir(parents=True)
    for name, text in {"class": "0x020000", "vendor": "0x8086", "device": "0x1592"}.items():
        (device / name).write_text(text + "\n")
    (device / "net/ens1/operstate").write_text("up\n")
    (device / "net/ens1/speed").write_text("100000\n")
    (tmp_path / "sys/drivers/ice").mkdir(parents=True)
    (device / "driver").symlink_to(tmp_path / "sys/drivers/ice")
    (tmp_path / "sys/devices/system/cpu").mkdir(parents=True)
    (tmp_path / "sys/devices/system/cpu/online").write_text("0-2,5\n")
    (tmp_path / "sys/kernel/mm/hugepages/hugepages-2048kB").mkdir(parents=True)
    (tmp_path / "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages").write_text("7\n")
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/route").write_text(
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\nens1\t00000000\t1\t3\t0\t0\t0\t00000000\n"
    )

    machine = look_around(tmp_path)

    assert machine.adapters == (Adapter("0000:3b:00.0", "8086:1592", "ice", ("ens1",), True, 100_000),)
    assert machine.cpus == (0, 1, 2, 5)
    assert machine.hugepage_bytes == 7 << 21
    assert machine.default_interfaces == {"ens1"}


def test_check_of_a_bad_file_ends_with_status_2(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(TEXT.replace("role", "roll"))
    result = CliRunner().invoke(main, ["check", str(path)])
    assert result.exit_code == 2
    assert 'did you mean "role"?' in result.stderr
    for command in ("run", "data-plane", "control", "slow-path", "directory"):
        assert CliRunner().invoke(main, [command, str(path)]).exit_code == 2


def test_check_touches_nothing(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(
        'name = "a"\ndirectory = "embedded"\n'
        f'runtime_dir = "{tmp_path}/run"\nstate_dir = "{tmp_path}/state"\n'
        'port.rack = { device = "net_null0", role = "inside" }\n'
    )
    result = CliRunner().invoke(main, ["check", str(path)])
    assert result.exit_code == 0, result.output
    assert "is good: a" in result.output
    assert [p.name for p in tmp_path.iterdir()] == ["gateway.toml"]


# ---- what is possible and hardly meant, and what cannot be ----------------------------------------


def doubts(text: str, machine: Machine = MACHINE) -> list[str]:
    return find_doubts(parse(text, Path("gateway.toml"))[0], machine)


def test_a_gateway_without_one_side_is_doubted_and_one_with_both_is_not() -> None:
    assert doubts(TEXT) == []
    assert "nothing leaves" in doubts(TEXT.replace('"underlay"', '"inside"').replace("addresses", "#"))[0]
    assert "no member" in doubts(TEXT[: TEXT.index("[port.rack]")])[0]


def test_a_larger_mtu_than_the_interface_s_is_doubted_with_the_command() -> None:
    text = TEXT.replace('"0000:5e:00.0"', '"net_af_packet1,iface=eth0"\nmtu_bytes = 9000')
    (doubt,) = doubts(text, replace(MACHINE, mtus={"eth0": 1500}))
    assert "ip link set eth0 mtu 9000" in doubt
    assert doubts(text, replace(MACHINE, mtus={"eth0": 9000})) == []


def test_cpus_that_poll_and_work_are_doubted() -> None:
    threads = "\n[threads]\npoll_cpus = [2, 3]\ncontrol_cpus = [1, 3]"
    (doubt,) = doubts(TEXT + threads)
    assert "CPU 3 polls" in doubt


def test_a_metrics_port_that_is_taken_is_doubted() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        (doubt,) = doubts(f'{TEXT}\n[metrics]\nlisten = "127.0.0.1:{taken.getsockname()[1]}"')
    assert "metrics.listen" in doubt


def test_two_ports_on_one_interface_are_refused() -> None:
    text = TEXT.replace('"0000:3b:00.0"', '"net_af_packet1,iface=eth0"')
    text = text.replace('"0000:5e:00.0"', '"net_af_packet2,iface=eth0"')
    with pytest.raises(ConfigurationError, match="port uplink is on eth0 too"):
        parse(text, Path("gateway.toml"))


def test_a_runtime_dir_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (found,) = problems(f'runtime_dir = "{tmp_path}/file"\n' + TEXT)
    assert "runtime_dir" in found
    assert "is no directory" in found


def test_packet_buffers_that_need_too_much_are_named_themselves() -> None:
    (found,) = problems(f"{TEXT}\n[memory]\npacket_buffers = 16_777_216")
    assert found.startswith("gateway.toml line 12: memory.packet_buffers: 16_777_216 need")


def test_check_tries_the_directories_and_says_why_none_serves(tmp_path: Path) -> None:
    text = TEXT.replace('"embedded"', f'["ipc://{tmp_path}/none"]')
    configuration, _ = parse(text, Path("gateway.toml"))
    (found,) = ask_directories(configuration, 1.0)
    assert f"nobody listens in {tmp_path}/none" in found


ROW = {"name": "gw1", "kind": "gateway", "state": "up", "silent_s": 0.4, "second": ""}


@pytest.mark.parametrize(
    ("rows", "runs_here", "words"),
    [
        ([ROW], False, "a gateway called gw1 runs already, and not here: heard 0 s ago"),
        ([ROW], True, ""),
        ([{**ROW, "state": "stale"}], False, ""),
        ([{**ROW, "second": "a second gateway calls itself gw1"}], True, "a second gateway calls itself gw1"),
        ([{**ROW, "kind": "vtep"}], False, "to the directory gw1 is a vtep"),
        ([{**ROW, "name": "gw2"}], False, "the directory has no node gw1"),
    ],
)
def test_check_asks_the_directory_whom_it_takes_for_this_gateway(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rows: list, runs_here: bool, words: str
) -> None:
    asked = []

    def call(self: object, type: str, **fields: object) -> dict:
        asked.append((type, fields.get("node")))
        return {"rows": rows}

    monkeypatch.setattr(trying.DirectoryClient, "call", call)
    text = f'runtime_dir = "{tmp_path}"\n' + TEXT.replace('"embedded"', f'["ipc://{tmp_path}/none"]')
    if runs_here:
        (tmp_path / "control.pid").write_text(f"{os.getpid()} 1")
    configuration, _ = parse(text, Path("gateway.toml"))
    found = ask_directories(configuration, 1.0)
    assert (words in found[0]) if words else found == []
    assert asked[0] == ("names", "gw1"), "another node's key is refused"


def test_check_finds_a_data_plane_of_this_name_whose_runtime_dir_is_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(trying, "SHARED_MEMORY", tmp_path)
    configuration, _ = parse(f'runtime_dir = "{tmp_path}"\n{TEXT}', Path("gateway.toml"))
    (tmp_path / "vnet-gw1").touch()
    assert find_twin(configuration) == [], "tables that nobody holds"
    with (tmp_path / "vnet-gw1").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        (found,) = find_twin(configuration)
        assert f"it holds {tmp_path}/vnet-gw1" in found
        (tmp_path / "data-plane.pid").write_text(f"{os.getpid()} 1")
        assert find_twin(configuration) == [], "it is this one's own"


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("0.0.0.7/8", "0.0.0.7 is in 0.0.0.0/8"),
        ("127.0.0.5/24", "127.0.0.5 is in 127.0.0.0/8"),
        ("224.0.0.1/24", "224.0.0.1 is in 224.0.0.0/3"),
        ("240.0.0.1/24", "240.0.0.1 is in 224.0.0.0/3"),
        ("192.0.2.0/24", "192.0.2.0 is the network address of 192.0.2.0/24"),
        ("192.0.2.255/24", "192.0.2.255 is the broadcast address of 192.0.2.0/24"),
        ("192.0.2.1/0", "such a prefix takes nearly all addresses"),
    ],
)
def test_an_address_that_cannot_work_is_refused(address: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(TEXT.replace("192.0.2.1/24", address), Path("gateway.toml"))
    assert words in str(caught.value)
    parse(TEXT.replace("192.0.2.1/24", "192.0.2.0/31"), Path("gateway.toml"))


def test_directory_check_and_data_plane_have_one_list_of_addresses_that_never_pass() -> None:
    for first in range(256):
        assert is_unicast(bytes([first, 1, 1, 1])) != (first in NEVER_FORWARDED), first
