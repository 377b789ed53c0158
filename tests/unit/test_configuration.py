# SPDX-License-Identifier: Apache-2.0
"""gateway.toml: the operator's two examples, every class of error, and what may change while it runs."""

from __future__ import annotations

from ipaddress import IPv4Interface
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.configuration.configuration import Configuration
from gateway.configuration.reader import ConfigurationError, load, parse
from gateway.main import main

PUBLIC_KEY = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
SMALLEST = """\
name      = "gw1"
directory = "embedded"            # a directory of its own, kept in SQLite

[port.uplink]
device    = "0000:3b:00.0"        # PCI address, or any DPDK device: "net_tap0,iface=up0"
role      = "underlay"
addresses = ["192.0.2.1/24"]      # put on the exception interface; leave out where FRR or networkd does it

[port.rack]
device = "0000:5e:00.0"
role   = "inside"
"""

FLEET = """\
name      = "ams1-gw1"            # this node, as the directory knows it
site      = "ams1"
locators  = ["192.0.2.1"]         # must stand on a kernel interface (here: lo, announced by BGP)
directory = ["tcp://10.80.0.11:7460", "tcp://10.80.0.12:7460", "tcp://10.80.0.13:7460"]

[identity]
key_file             = "/etc/vnet/gateway.key"                      # mode 0600, made by `vnet-gateway enroll`
directory_public_key = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"

[port.uplink0]
device    = "0000:3b:00.0"
role      = "underlay"
exception = "uplink0"             # the interface on which Linux sees what is addressed to this gateway
mtu_bytes = 9000

[port.uplink1]
device    = "0000:3b:00.1"
role      = "underlay"
exception = "uplink1"
mtu_bytes = 9000

[port.rack]                       # which VLAN is which V-net is the directory's to say (attachment)
device    = "bond:0000:5e:00.0,0000:5e:00.1"    # LACP
role      = "inside"              # "both": inside and underlay on one port, told apart by VLAN
mtu_bytes = 9000

[threads]
poll_cpus         = [2, 3]
control_cpus      = [0, 1]        # everything that is not a poll thread
slow_path_workers = 1
idle              = "sleep"       # sleep | interrupt | spin (live)
max_sleep_us      = 100

[capacity]                        # sizes the arena at start
flows     = 1_000_000
locations = 2_000_000
tunnels   = 16_384
vnets     = 4_096
sessions  = 0
threads   = 8                     # the most poll threads there can ever be

[hold]                            # (live) packets that wait for a decision
packets          = 8_192
packets_per_vnet = 1_024
packets_per_ingress = 512
packets_per_flow = 16
wait_ms          = 1_000
misses_per_ingress_s = 50_000

[admin]
socket      = "/run/vnet/gateway.sock"       # everything
group       = "vnet-admin"
show_socket = "/run/vnet/show.sock"          # only what changes nothing
show_group  = "vnet"

[metrics]
listen = "127.0.0.1:9464"

[log]
level  = "info"                   # (live)
format = "auto"                   # console on a terminal, JSON elsewhere
"""


def read(text: str) -> Configuration:
    return parse(text, Path("gateway.toml"))[0]


def errors(text: str) -> str:
    with pytest.raises(ConfigurationError) as raised:
        read(text)
    return raised.value.report()


def smallest_with(old: str, new: str) -> str:
    assert old in SMALLEST
    return SMALLEST.replace(old, new)


def test_smallest_file_has_every_default() -> None:
    gateway = read(SMALLEST)

    assert gateway.is_embedded
    assert gateway.runtime_dir == Path("/run/vnet/gw1")
    assert gateway.state_dir == Path("/var/lib/vnet/gw1")
    assert gateway.directory_endpoints == ("ipc:///run/vnet/gw1",)
    assert gateway.locators == ("192.0.2.1",)
    assert gateway.ports["uplink"].exception == "uplink"
    assert gateway.ports["uplink"].addresses == (IPv4Interface("192.0.2.1/24"),)
    assert gateway.ports["rack"].exception == ""
    assert gateway.admin.socket == Path("/run/vnet/gw1/gateway.sock")
    assert gateway.threads.poll_threads == 1


def test_fleet_file_says_what_it_says() -> None:
    gateway = read(FLEET)

    assert gateway.directory_endpoints == tuple(f"tcp://10.80.0.{n}:7460" for n in (11, 12, 13))
    assert gateway.identity is not None
    assert gateway.identity.key_file == Path("/etc/vnet/gateway.key")
    assert gateway.identity.directory_public_key == (PUBLIC_KEY,)
    assert [p.mtu_bytes for p in gateway.ports.values()] == [9000, 9000, 9000]
    assert gateway.threads.poll_cpus == (2, 3)
    assert gateway.capacity.flows == 1_000_000
    assert gateway.hold.packets_per_ingress == 512
    assert gateway.hold.misses_per_ingress_s == 50_000
    assert gateway.admin.show_group == "vnet"
    assert gateway.metrics.listen == "127.0.0.1:9464"


def test_unknown_key_names_file_line_key_and_the_nearest_one() -> None:
    assert errors(smallest_with("device = ", "devise = ")) == (
        "error: gateway.toml line 9: port.rack: device is missing\n"
        "fix:   add device = … (a string)\n"
        "error: gateway.toml line 10: port.rack.devise: unknown key\n"
        'fix:   did you mean "device"?'
    )


def test_all_errors_are_reported_at_once_in_the_order_of_lines() -> None:
    text = (
        smallest_with('"gw1"', '"GW 1"').replace('"inside"', '"insides"')
        + "[capacity]\nflows = 1\nflaws = 2\n"
    )

    lines = [line for line in errors(text).splitlines() if line.startswith("error:")]

    assert [line.split(":")[1].split()[-1] for line in lines] == ["1", "11", "13", "14"]


@pytest.mark.parametrize(
    ("old", "new", "problem", "fix"),
    [
        ('"gw1"', "7", "name: 7 is not a string", "give a string"),
        ('name      = "gw1"', "", "name is missing", "add name"),
        ('directory = "embedded"', "", "directory is missing", "embedded"),
        ('"embedded"', '"embeded"', "embeded is no endpoint", 'did you mean "embedded"?'),
        ('"embedded"', '["tcp://10.0.0.1"]', "is no endpoint", "tcp://10.80.0.11:7460"),
        ('"embedded"', "[]", "neither an endpoint nor a list", "embedded"),
        ('"embedded"', '["tcp://10.0.0.1:7460"]', "needs [identity]", "key_file"),
        ('"embedded"', '["ipc:///a", "ipc:///a"]', '"ipc:///a" is there twice', "remove one"),
        ('"0000:5e:00.0"', '"0000:5e:00"', "neither a PCI address", "correct it"),
        ('"0000:5e:00.0"', '"net_tab0,iface=x"', 'no driver "net_tab": did you mean "net_tap"?', "correct"),
        ('"0000:5e:00.0"', '"net_tap0,iface"', "is no argument of a device", "correct it"),
        ('"0000:5e:00.0"', '"0000:3b:00.0"', "port uplink has the same device", "its own"),
        ('"0000:5e:00.0"', '"bond:0000:5e:00.0,rack"', '"rack" in the bond is no PCI address', "correct it"),
        ('"0000:3b:00.0"', '"net_tap0,iface=uplink"', "both the device and the exception", "uplink-exc"),
        ('"inside"', '"insid"', '"insid" is not possible', 'did you mean "inside"?'),
        ('"inside"', '"inside"\nexception = "x"', "no exception interface", 'role = "underlay"'),
        ('"inside"', '"both"\nexception = "uplink"', 'port uplink uses "uplink" too', "rack"),
        ('"inside"', '"both"\nexception = "a-very-long-name"', "is no interface name", "correct it"),
        ('"inside"', '"inside"\nmtu_bytes = 100', "100 is out of range", "from 576 to 9600"),
        ("port.rack", "port.rack-number-thirteen", "is no name of a port", "at most 15"),
        ('"192.0.2.1/24"', '"192.0.2.1"', "lacks its prefix length", "correct it"),
        ('"192.0.2.1/24"', '"192.0.2.300/24"', "is no IPv4 address", "correct it"),
        ('"192.0.2.1/24"', '"224.0.0.1/24"', "no address to which other nodes could send", "correct it"),
        ('["192.0.2.1/24"]', "[]", "no locator", 'locators = ["192.0.2.1"]'),
        ('"gw1"', '"gw1"\nlocators = ["gw1"]', "is no IPv4 address", "correct it"),
        ('"gw1"', '"gw1"\nruntime_dir = "run"', "is no absolute path", "correct it"),
        ('"gw1"', f'"gw1"\nruntime_dir = "/{"x" * 100}"', "107 are possible", "shorter"),
        ('"inside"', '"inside"\n[capacity]\nsessions = 1', "sessions are not carried", "sessions = 0"),
        ('"inside"', '"inside"\n[threads]\npoll_cpus = [1, 1]', "a CPU is there twice", "remove one"),
        ('"inside"', '"inside"\n[threads]\nidle = "slep"', '"slep" is not possible', 'did you mean "sleep"?'),
        ('"inside"', '"inside"\n[threads]\npoll_cpus=[1,2]\n[capacity]\nthreads = 1', "2 poll", "thread"),
        ('"inside"', '"inside"\n[hold]\npackets = 8\npackets_per_flow = 9', "9 is more than", "raise"),
        ('"inside"', '"inside"\n[metrics]\nlisten = "9464"', "is no address to listen on", "correct it"),
        ('"inside"', '"inside"\n[log]\nlevel = "warn"', '"warn" is not possible', "warning"),
        ('"inside"', '"inside"\n[threads]\nslow_path_workers = 0', "0 is out of range", "from 1 to 16"),
        ('"inside"', '"inside"\n[threads]\nslow_path_workers = true', "true is not a number", "a number"),
        ('"inside"', '"inside', "no TOML", "https://toml.io"),
    ],
)  # fmt: skip
def test_each_mistake_has_a_sentence_and_a_remedy(old: str, new: str, problem: str, fix: str) -> None:
    report = errors(smallest_with(old, new))

    sentence, remedy = report.splitlines()[-2:] if report.count("error:") == 1 else ("", "")
    assert sentence.startswith("error: gateway.toml line "), report
    assert problem in sentence
    assert remedy.startswith("fix:   ")
    assert fix in remedy


def test_no_port_is_an_error() -> None:
    assert "no port is configured" in errors('name = "gw1"\ndirectory = "embedded"\n')


def test_embedded_directory_of_a_fleet_is_an_error() -> None:
    text = 'name = "a"\ndirectory = ["ipc:///run/d"]\nport.x = { device = "net_null0", role = "inside" }\n'
    assert "there is no embedded directory" in errors(
        text + '[embedded_directory]\nconfig = "directory.toml"\n'
    )


def test_paths_in_the_file_are_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(SMALLEST + '[embedded_directory]\nconfig = "directory.toml"\n')
    (tmp_path / "directory.toml").write_text('name = "d"\nlisten = "ipc:///run/d"\n')

    gateway = load(tmp_path / "gateway.toml")

    assert gateway.embedded_directory.config == tmp_path / "directory.toml"
    assert gateway.directory_endpoints == ("ipc:///run/d",)


def test_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: No such file") as raised:
        load(tmp_path / "none.toml")
    assert "vnet-gateway init" in raised.value.report()


def test_a_file_that_cannot_be_read_has_no_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load(tmp_path)
    assert str(raised.value).startswith(f"{tmp_path}: cannot be read")


def test_a_worker_that_the_file_does_not_have_is_refused(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(f'runtime_dir = "{tmp_path}"\n' + SMALLEST)
    result = CliRunner().invoke(main, ["slow-path", str(tmp_path / "gateway.toml"), "--worker", "5"])
    assert result.exit_code == 2
    assert "there is no worker 5: slow_path_workers = 1" in result.output
    assert not list(tmp_path.glob("*.pid"))


def test_several_public_keys_of_the_directory_are_accepted_each_checked() -> None:
    line, other = f'directory_public_key = "{PUBLIC_KEY}"', PUBLIC_KEY[::-1]
    gateway = read(FLEET.replace(line, f'directory_public_key = ["{PUBLIC_KEY}", "{other}"]'))
    assert gateway.identity is not None
    assert gateway.identity.directory_public_key == (PUBLIC_KEY, other)
    wrong = {"[]": "at least 1", f'["{PUBLIC_KEY}", "short"]': "no CURVE public key", "7": "string"}
    for value, words in wrong.items():
        assert words in errors(FLEET.replace(line, f"directory_public_key = {value}"))
