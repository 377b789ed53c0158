# SPDX-License-Identifier: Apache-2.0
"""What a kind of record is to the directory: one `Kind` in a file of its own, listed in `registry.py`.

A kind says what its records may say (`read`), where they stand in a document (`section`), what they need
(`references`, `check`), what may not be meant (`doubts`), how they read in a diff (`describe`) and what a
list adds to them (`more`). Documents, diffs, checks, lists and the model ask the registry and name no kind,
but where one is different in itself. How operators call it is said in directory_client/kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from directory_client.kinds.noun import Noun
from directory_client.toml.strict_toml import Table, TomlError
from directory_client.toml.toml_lines import Lines
from directory_client.toml.toml_text import toml_value
from directory_client.vocabulary.names import check_name
from directory_client.vocabulary.numbers import ChangeKind
from directory_service.kinds.records import Record
from directory_service.kinds.together import Fault, Together

Values = dict[str, Any]
Inside = Mapping[str, Any]  # a kind's records of a V-net by name, typed
Operation = dict[str, Any]  # of docs/protocol.md, section 2.3
Teller = Callable[
    [Inside, Any, Callable[[str], Any], Iterable[Any]], Iterator[tuple[tuple[Any, ...], Operation]]
]
Block = list[str]  # lines of a document


@dataclass(frozen=True, slots=True)
class Declared:
    """One thing that a document declares, and where it stands, for errors: the table `inner` of `outer`, or
    `outer` itself."""

    kind: str
    key: str  # kind/name, as records have it
    values: Mapping[str, Any]
    outer: Table
    inner: str | None = None

    @property
    def name(self) -> str:
        """The name, VNET/NAME for what lives in a V-net."""
        return self.key.partition("/")[2]

    @property
    def table(self) -> Table:
        """The table that it stands in."""
        return self.outer if self.inner is None else self.outer.table(self.inner)

    def problem(self, field: str | None, problem: str, fix: str) -> TomlError:
        """Make an error that says where this stands."""
        table = self.table
        return table.problem(field if field and field in table else None, problem, fix)


class Section(Protocol):
    """Where the records of a kind stand in a document, both ways; `outer` is the document, or a V-net in it.

    `within` stands before their names in keys: "site/" or "endpoint/red/".
    """

    def read(self, kind: Kind, outer: Table, within: str, mistakes: list[TomlError]) -> Iterator[Declared]:
        """Yield what is declared; what is wrong is added to `mistakes` and left out."""

    def write(self, kind: Kind, heading: str, records: Sequence[Record]) -> Iterator[Block]:
        """Yield blocks of lines that declare records, which are in order of names. `heading` is what stands
        before the kind in a heading: "" or "vnet.red."."""


class World(Protocol):
    """The snapshot that a list is made of, as far as kinds look at it."""

    @property
    def vnets(self) -> Mapping[str, Any]: ...

    @property
    def fabric(self) -> Any: ...


class Surroundings(Protocol):
    """What a warning about one record may look up about others."""

    def groups(self, vnet: str) -> Iterable[str]:
        """Return the groups that somebody of a V-net is in."""

    def ports(self, node: str) -> Iterable[str] | None:
        """Return the inside ports that a gateway says it has, None if it has said nothing."""


class Reference(NamedTuple):
    """What a record needs to be there: a record of a kind, named in a field (None: in its own name)."""

    field: str | None
    kind: str
    name: str


# What `typed` may raise for a record that a newer program has written.
UNREADABLE = (ValueError, TypeError, KeyError, IndexError, AttributeError)


def describe_unreadable(error: Exception) -> str:
    """Say why a record cannot be read."""
    if isinstance(error, TomlError):
        return f"{error.key}: {error.problem}" if error.key else error.problem
    return f"{error.args[0]} is missing" if isinstance(error, KeyError) and error.args else str(error)


def describe_values(values: Mapping[str, Any]) -> str:
    """Return all that a record says: "site ams1  locators 203.0.113.7"."""
    return "  ".join(f"{key} {say(value)}" for key, value in values.items())


def say(value: Any) -> str:
    """Return a value in the words of a diff."""
    if value is None:
        return "(default)"
    if isinstance(value, list):
        return ", ".join(say(item) for item in value) if value else "(none)"
    return value if isinstance(value, str) else toml_value(value)


def _itself(record: Record) -> Any:
    return record


def _as_they_are(values: Mapping[str, Any]) -> Values:
    return dict(values)


def _nothing(*_: Any) -> Iterator[Any]:
    return iter(())


def _no_more(world: World, record: Record) -> Values:
    return {}


@dataclass(frozen=True, slots=True)
class Kind:
    """See the module.

    - `read`: from a table of a file, or of a request, to canonical values: a dict in the words of
      topology.toml, in a fixed order, without what is at its default. So equal declarations have equal
      values, and a document can be written back from its records. It also reads what is in stores: what it
      has once taken it must take for ever, for what it refuses there carries nothing.
    - `check_name`: raises ValueError for what cannot be its name (inside its V-net).
    - `to_typed`: the form that decide reads, of values that have been read. `reads_itself`: it checks them,
      as quickly as there are many of them, and raises one of UNREADABLE for what this program does not know.
    - `exclusive`: pairs of fields of which the one that is set takes the other's place.
    - `references`: what must be there. `check`: what else must fit, looking at all records. `check_change`:
      what cannot become of a record (before, after).
    - `doubts`: sentences on what fits but does not work, about a record and the values of its V-net.
      `doubts_among`: likewise, where others have to be looked at.
    - `describe`: what values say, on one line of a diff. `compared`: the values as a diff compares them.
    - `more`: what a list shows beside the record's own words.

    Of what lives in a V-net, where nodes or decisions depend on it as a whole:

    - `told`: what a node that hosts the V-net is told, from the kind's records there (by name, typed), the
      V-net, a look at others by name, and the V-nets that have such a record of this one's name: (key in its
      view, operation) each. `untold`: for each operation what undoes it, and the fields that name it.
    - `weighs`: how a change of these records (before, after) alters all decisions in the V-net; None: it
      does not.
    """

    noun: Noun
    read: Callable[[Table], Values]
    section: Section
    check_name: Callable[[str], object] = check_name
    to_typed: Callable[[Record], Any] = _itself
    reads_itself: bool = False
    exclusive: tuple[tuple[str, str], ...] = ()
    references: Callable[[Record], Iterable[Reference]] | None = None
    check: Callable[[Together], Iterator[Fault]] = _nothing
    check_change: Callable[[Record, Record], Iterator[Fault]] = _nothing
    doubts: Callable[[Record, Mapping[str, Any]], Iterator[str]] = _nothing
    doubts_among: Callable[[Record, Surroundings], Iterator[str]] = _nothing
    describe: Callable[[Mapping[str, Any]], str] = describe_values
    compared: Callable[[Mapping[str, Any]], Values] = _as_they_are
    more: Callable[[World, Record], Values] = _no_more
    told: Teller | None = None
    untold: Mapping[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    weighs: Callable[[Inside, Inside], ChangeKind | None] | None = None

    @property
    def name(self) -> str:
        """What it is called, "endpoint": the first part of its records' keys."""
        return self.noun.kind

    def typed(self, record: Record) -> Any:
        """Return the form that decide reads. Raises one of UNREADABLE for what a newer program has written:
        it may be a limit, and must not be overlooked."""
        self.check_values(record)
        return self.to_typed(record)

    def check_values(self, record: Record) -> None:
        """Raise one of UNREADABLE for what this program does not know."""
        if not self.reads_itself:
            table = Table("", Lines(), (), dict(record.values))
            self.read(table)
            table.finish()
