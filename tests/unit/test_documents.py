# SPDX-License-Identifier: Apache-2.0
"""Documents say all that is wrong in them, each with its line and remedy."""

import pytest

from directory_client.toml.strict_toml import SHOWN_MAX, TomlError, TomlErrors, read_toml
from directory_client.wire.limits import AT_ONCE_BYTES_MAX, DOCUMENT_BYTES_MAX
from directory_client.wire.messages import DirectoryError
from directory_client.wire.operator_requests import check_document_size, message_of
from directory_service.documents.document import parse_document
from directory_service.refused import Refused
from directory_service.settings import Settings
from directory_service.store.memory import MemoryStore
from whole_directory import WholeDirectory as Directory


def directory() -> Directory:
    return Directory(MemoryStore(), Settings(), lambda: 1_000_000)


def mistakes(text: str) -> list[str]:
    with pytest.raises(TomlErrors) as caught:
        parse_document(text, "t.toml")
    return [str(error).removeprefix("t.toml ") for error in caught.value.errors]


def test_a_document_says_all_its_mistakes_in_the_order_of_their_lines() -> None:
    text = """document = "d"
[site.ams]
kind = "garage"
colour = "red"
[node.BAD_]
kind = "gateway"
[vnet.red]
vni = 0
[vnet.red.endpoint]
a = { mac = "02:00:00:00:00:01", addresses = ["10.0.0.300"], at = ["g1/rack:1"], preference = 999 }
b = 7
"""

    lines = mistakes(text)

    assert [line.partition(": ")[0] for line in lines] == [
        "line 3",
        "line 4",
        "line 5",
        "line 8",
        "line 10",
        "line 10",
        "line 11",
    ]
    assert "garage" in lines[0]
    assert "colour: unknown key" in lines[1]


def test_what_follows_from_a_mistake_is_no_mistake_of_its_own() -> None:
    with pytest.raises(TomlError) as caught:
        parse_document('document = "d"\n[node.g1]\nkind = "router"\n', "t.toml")
    assert not isinstance(caught.value, TomlErrors)
    assert caught.value.line == 3


def test_many_mistakes_are_bounded() -> None:
    text = 'document = "d"\n' + "".join(f"[site.s{number}]\nkind = 1\n" for number in range(50))
    with pytest.raises(TomlErrors) as caught:
        parse_document(text, "t.toml")
    shown = str(caught.value).splitlines()
    assert shown[0] == "t.toml has 50 mistakes"
    assert len(shown) == SHOWN_MAX + 2
    assert shown[-1] == "  and 30 more"
    assert "→" in shown[1]


def test_all_names_that_are_not_declared_are_said_together() -> None:
    text = """document = "d"
[node.g1]
kind = "gateway"
site = "nowhere"
[vnet.red]
vni = 7
[[vnet.red.attachment]]
nodes = ["g2"]
port = "rack"
[vnet.red.endpoint]
a = { mac = "02:00:00:00:00:01", at = ["g3/rack:1"] }
"""
    with pytest.raises(TomlErrors) as caught:
        directory().apply(text, "t.toml")
    found = str(caught.value)
    assert all(name in found for name in ("nowhere", "g2", "g3"))
    assert [error.line for error in caught.value.errors] == [4, 8, 11]


def test_what_other_documents_lose_is_said_together() -> None:
    world = directory()
    world.apply('document = "a"\n[site.s]\n', "a.toml")
    world.apply('document = "b"\n[node.g1]\nkind = "gateway"\nsite = "s"\n', "b.toml")
    world.apply('document = "c"\n[node.g2]\nkind = "gateway"\nsite = "s"\n', "c.toml")
    with pytest.raises(Refused) as refused:
        world.apply('document = "a"\n', "a.toml")
    assert "node g1" in str(refused.value)
    assert "node g2" in str(refused.value)


def test_what_another_document_owns_is_said_together_and_taken_over_as_a_whole() -> None:
    world = directory()
    sites = "[site.s1]\n[site.s2]\n"
    world.apply('document = "old"\n' + sites, "old.toml")
    with pytest.raises(TomlErrors) as caught:
        world.apply('document = "new"\n' + sites, "new.toml")
    assert len(caught.value.errors) == 2
    assert "--take-over document:old" in caught.value.errors[0].fix

    world.apply('document = "new"\n' + sites, "new.toml", take_over=["document:old"])

    assert "[site.s2]" in world.export("new")
    with pytest.raises(Refused, match="there is no document old"):
        world.export("old")


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ('action = "deny"\nanswer_ports = [22]', "a deny lets no answers through"),
        ('action = "allow"\ndirection = "forward"\nanswer_ports = [22]', "lets no answers through"),
        ('action = "allow"\nproto = "icmp"\nanswer_ports = [22]', "icmp has no ports"),
        ('action = "allow"\nanswer_ports = [0]', "0 is no port"),
    ],
)
def test_answer_ports_stand_where_there_are_answers(directory: Directory, keys: str, problem: str) -> None:
    text = f'document = "d"\n[vnet.red]\nvni = 7\n[vnet.red.rule.r]\nfrom = "any"\nto = "any"\n{keys}\n'
    with pytest.raises(TomlError) as caught:
        directory.apply(text, "d.toml")
    assert problem in str(caught.value)
    assert "answer_ports" in str(caught.value)


def test_nothing_to_take_over_from_a_document_is_refused() -> None:
    with pytest.raises(Refused, match="declares nothing that document old owns"):
        directory().apply('document = "new"\n[site.s]\n', "new.toml", take_over=["document:old"])


@pytest.mark.parametrize(
    ("text", "key", "line"),
    [
        ("a = 1\nb = 2\na = 3\n", "a", 3),
        ('[x]\na = 1\n"a" = 3\n', '"a"', 3),
        ("[x.y]\n[x.y]\n", "x.y", 2),
        ("a = { b = 1, b = 2 }\n", "a", 1),
    ],
)
def test_a_key_that_is_there_twice_is_named(text: str, key: str, line: int) -> None:
    with pytest.raises(TomlError) as caught:
        read_toml(text, "t.toml")
    assert (caught.value.key, caught.value.line) == (key, line)
    assert caught.value.problem == "is there twice"


def test_a_byte_order_mark_is_named() -> None:
    with pytest.raises(TomlError, match="begins with a byte-order mark"):
        read_toml('\ufeffname = "x"\n', "t.toml")


@pytest.mark.parametrize("name", ["all", "any"])
def test_words_that_mean_many_are_no_node_s_name(name: str) -> None:
    """`--at all` asks every gateway: one that is called so could not be asked."""
    world = directory()
    with pytest.raises(TomlError, match=f'"{name}" means every.*cannot be a node\'s name'):
        world.apply(f'document = "a"\n[node.{name}]\nkind = "gateway"\n', "a.toml")
    with pytest.raises(Refused, match="cannot be a node's name"):
        world.set_record("node", name, {"kind": "gateway"})
    assert world.apply(f'document = "a"\n[site.{name}]\n[node.{name}-1]\nkind = "gateway"\n', "a.toml").added


def test_a_node_of_such_a_name_that_is_there_already_can_be_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    world = directory()
    with monkeypatch.context() as earlier:  # a release that did not know the word
        earlier.setattr("directory_service.kinds.node.RESERVED_NAMES", {})
        world.set_record("node", "all", {"kind": "gateway"})
    assert world.remove_record("node", "all").removed == 1


def test_what_was_previewed_is_what_is_applied() -> None:
    world = directory()
    mine = 'document = "a"\n[site.s]\n'
    preview = world.apply(mine, "a.toml", dry_run=True)
    world.apply('document = "b"\n[site.t]\n', "b.toml")
    with pytest.raises(Refused, match="moved on from revision 0 to 1"):
        world.apply(mine, "a.toml", expect_revision=preview.before)
    assert world.apply(mine, "a.toml", expect_revision=1).revision == 2


def test_what_was_previewed_is_what_is_rolled_back() -> None:
    world = directory()
    world.apply('document = "a"\n[site.s]\n', "a.toml")
    preview = world.rollback(0, dry_run=True)
    world.apply('document = "b"\n[site.t]\n', "b.toml")  # a colleague's
    with pytest.raises(Refused, match="moved on from revision 1 to 2"):
        world.rollback(0, expect_revision=preview.before)
    assert world.rollback(0, expect_revision=2).removed == 2


def test_a_document_beyond_the_limit_is_refused_before_it_is_sent() -> None:
    request = {"verb": "apply", "args": {"text": "#" * (AT_ONCE_BYTES_MAX + 1)}}
    with pytest.raises(DirectoryError, match="at most AT_ONCE_BYTES_MAX, 16711680"):
        message_of(request)
    with pytest.raises(DirectoryError, match="more than DOCUMENT_BYTES_MAX, 268435456"):
        check_document_size("#" * (DOCUMENT_BYTES_MAX + 1))
