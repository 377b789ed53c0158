# SPDX-License-Identifier: Apache-2.0
"""The numpy dtypes against the debug information of the built library: names, offsets, sizes."""

from __future__ import annotations

import numpy as np
import pytest
from elftools.dwarf.die import DIE
from elftools.elf.elffile import ELFFile

from fastpath import records

QUALIFIERS = {"DW_TAG_typedef", "DW_TAG_const_type", "DW_TAG_volatile_type"}


def resolved(die: DIE) -> DIE:
    die = die.get_DIE_from_attribute("DW_AT_type")
    while die.tag in QUALIFIERS:
        die = die.get_DIE_from_attribute("DW_AT_type")
    return die


def length_bytes(die: DIE) -> int:
    if die.tag != "DW_TAG_array_type":
        return die.attributes["DW_AT_byte_size"].value
    total = length_bytes(resolved(die))
    for child in die.iter_children():
        if child.tag == "DW_TAG_subrange_type":
            total *= child.attributes["DW_AT_upper_bound"].value + 1
    return total


@pytest.fixture(scope="module")
def structs() -> dict[str, tuple[int, dict[str, tuple[int, int]]]]:
    """Struct name -> (size, member -> (offset, size)), as the compiler wrote them down."""
    found = {}
    with open(records.__file__, "rb") as library:
        for unit in ELFFile(library).get_dwarf_info().iter_CUs():
            for die in unit.get_top_DIE().iter_children():
                name = die.attributes.get("DW_AT_name")
                if (
                    die.tag != "DW_TAG_structure_type"
                    or name is None
                    or "DW_AT_byte_size" not in die.attributes
                ):
                    continue
                members = {
                    member.attributes["DW_AT_name"].value.decode(): (
                        member.attributes["DW_AT_data_member_location"].value,
                        length_bytes(resolved(member)),
                    )
                    for member in die.iter_children()
                    if member.tag == "DW_TAG_member" and "DW_AT_name" in member.attributes
                }
                found[name.value.decode()] = (die.attributes["DW_AT_byte_size"].value, members)
    return found


@pytest.mark.parametrize("name", sorted(records.DTYPES))
def test_dtype_is_laid_out_as_the_struct(name: str, structs) -> None:
    dtype = records.DTYPES[name]
    size, members = structs[name]

    seen = {field: (dtype.fields[field][1], dtype.fields[field][0].itemsize) for field in dtype.names}

    assert dtype.itemsize == size
    assert seen == members


def test_every_shared_struct_has_a_dtype(structs) -> None:
    shared = {n for n in structs if n.startswith("fp_") and not n.startswith("fp_layout")}
    native_only = {"fp_ring_end", "fp_rings_header", "fp_secret", "fp_arena_config", "fp_adoption_report"}
    headers = {
        n
        for n in shared - native_only
        if n.startswith("fp_record")
        or n in {"fp_flow_key", "fp_vnet", "fp_ingress", "fp_location", "fp_scope"}
    }

    assert len(headers) > 20
    assert headers <= set(records.DTYPES)


def test_every_record_type_has_a_struct_of_128_bytes() -> None:
    assert set(records.STRUCT_OF) == set(records.RecordType)
    assert {dtype.itemsize for dtype in records.STRUCT_OF.values()} == {records.RECORD_BYTES}


def test_batches_are_built_by_column() -> None:
    keys = records.make_keys(
        3, ingress=[7, 8, 9], key_class=records.KeyClass.ROUTED, source=bytes(12) + b"\x0a\0\0\1"
    )

    rows = records.make(
        records.RecordType.FLOW_INSTALL,
        3,
        vni=7001,
        revision=[1, 2, 3],
        key=keys,
        token=np.arange(3),
        reason=40,
    )

    assert rows["head"]["type"].tolist() == [48, 48, 48]
    assert rows["head"]["version"].tolist() == [1, 1, 1]
    assert rows["head"]["revision"].tolist() == [1, 2, 3]
    assert rows["key"]["ingress"].tolist() == [7, 8, 9]
    assert rows[1].tobytes()[16 + 12 : 16 + 16] == b"\x0a\0\0\1"
    assert records.select(records.join([rows, rows]), records.RecordType.FLOW_INSTALL).shape == (6,)


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({"colour": 1}, "colour"),
        ({"port": "a-name-of-more-than-16-bytes"}, "16 bytes"),
        ({"zero": b"12"}, "84 wanted"),
    ],
)
def test_column_that_does_not_fit_is_named(columns, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        records.make(records.RecordType.ATTACHMENT_SET, **columns)
