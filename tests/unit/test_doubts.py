# SPDX-License-Identifier: Apache-2.0
"""What a document may say, but what does not work, is warned about."""

import pytest

from directory_service.settings import Settings
from directory_service.store.memory import MemoryStore
from whole_directory import WholeDirectory as Directory

BASE = """document = "d"
[node.g1]
kind = "gateway"
[vnet.red]
vni = 7
prefixes = ["10.0.0.0/24"]
"""


def warnings(text: str, vnet: str = "") -> str:
    directory = Directory(MemoryStore(), Settings(), lambda: 1_000_000)
    return "\n".join(directory.apply(BASE + vnet + text, "d.toml").warnings)


GREEN = "[vnet.green]\nvni = 8\n"
RULE = '[vnet.red.rule.r]\naction = "allow"\nfrom = "any"\nto = "any"\n'
TO_DB = RULE.replace('to = "any"', 'to = "10.0.0.9/32"')


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (GREEN + 'prefixes = ["10.0.0.0/16", "10.0.2.0/24"]\n', "10.0.0.0/16 and 10.0.2.0/24 overlap"),
        (GREEN + 'prefixes = ["0.0.0.0/0"]\n', "is every address"),
        (GREEN + 'prefixes = ["240.0.0.0/24"]\n', "240.0.0.0/24 is in 224.0.0.0/3"),
        (GREEN + 'prefixes = ["2001:db8::/64"]\n', "IPv6 is not carried yet"),
        (GREEN + 'relays = ["g1"]\n', "relays are not carried yet"),
        (GREEN + "[vnet.red.peering.green]\n", "traffic between V-nets is not carried"),
        (GREEN + 'gateway_addresses = ["127.0.0.1"]\n', "127.0.0.1 is in 127.0.0.0/8"),
        ('[profile.p]\nprotocol = "gre"\n', "gre is not carried yet"),
        (RULE + "stateful = true\n", "stateful rules are not"),
        (RULE + 'proto = "tcp"\nports = [22]\nanswer_ports = [25]\n', "lets any open these ports of any"),
        (TO_DB + 'answer_ports = ["1024-65535"]\n', "lets 10.0.0.9/32 open these ports of any"),
    ],
)
def test_what_does_not_work_is_warned_about(text: str, sentence: str) -> None:
    assert sentence in warnings(text)


@pytest.mark.parametrize(("address", "word"), [("10.0.0.0", "network"), ("10.0.0.255", "broadcast")])
def test_the_ends_of_a_prefix_are_no_endpoints(address: str, word: str) -> None:
    place = '[[vnet.red.attachment]]\nnodes = ["g1"]\nport = "rack"\n'
    where = f'mac = "02:00:00:00:00:01", at = ["g1/rack"], addresses = ["{address}"]'
    endpoint = f"[vnet.red.endpoint]\na = {{ {where} }}\n"
    assert f"{address} is the {word} address of 10.0.0.0/24" in warnings(place + endpoint)


def test_what_works_is_not_warned_about() -> None:
    assert warnings("") == ""
    assert warnings(RULE + 'answer_ports = ["1-65535"]\n') == "", "from any to any is both ways as it is"
    assert warnings(TO_DB + 'proto = "tcp"\nanswer_ports = [40000]\n') == ""


TWO_SITES = """document = "d"
[site.a]
[site.b]
[path.a-b]
sites = ["a", "b"]
trust = "carrier"
[node.g1]
kind = "gateway"
site = "a"
[node.leaf]
kind = "vtep"
site = "b"
locators = ["203.0.113.7"]
ids = { red = 9001, blue = 9002 }
[vnet.red]
vni = 7
[[vnet.red.attachment]]
nodes = ["g1"]
port = "rack"
[vnet.red.endpoint]
far = { addresses = ["10.0.0.9"], mac = "02:00:00:00:00:09", node = "leaf" }
[vnet.blue]
vni = 8
"""
PATH = '[path.a-b]\nsites = ["a", "b"]\ntrust = "carrier"\n'


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (TWO_SITES.replace(PATH, ""), "no path is left between the sites a and b for V-net red"),
        (TWO_SITES.replace("carrier", "internet"), "no path is left between the sites a and b for V-net red"),
    ],
)
def test_what_a_change_does_that_its_records_do_not_show_is_warned_about(text: str, sentence: str) -> None:
    directory = Directory(MemoryStore(), Settings(), lambda: 1_000_000)
    assert directory.apply(TWO_SITES, "d.toml").warnings == []
    for dry_run in (True, False):
        assert sentence in "\n".join(directory.apply(text, "d.toml", dry_run).warnings)
    assert directory.apply(text, "d.toml").warnings == [], "it is said once"


def test_a_single_record_is_warned_about_as_in_a_document() -> None:
    directory = Directory(MemoryStore(), Settings(), lambda: 1_000_000)
    directory.apply(TWO_SITES, "d.toml")
    rule = {"action": "allow", "from": "group:nosuch", "to": "any"}
    assert "nobody is in group nosuch" in "\n".join(directory.set_record("rule", "red/r", rule).warnings)
