# SPDX-License-Identifier: Apache-2.0
"""What a single value of gateway.toml may be. Each check raises ValueError with a sentence."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from directory_client.endpoint import parse_endpoint
from directory_client.toml.strict_toml import Table, read_toml
from directory_client.vocabulary.addresses import NEVER_FORWARDED
from directory_client.wire.messages import DirectoryError
from gateway.configuration.device import parse_device

INTERFACE_BYTES = 15  # IFNAMSIZ
_INTERFACE = re.compile(r"[^\s/:]{1,15}")
_LISTEN = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):(\d{1,5})")


def listen_of(section: Table, path: Path) -> str:
    """Read where a directory.toml listens, on this machine if it does; it checks the rest."""
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise section.problem("config", f"{path} cannot be read: {error.strerror}", f"ls -l {path}") from None
    except UnicodeDecodeError as error:
        problem = f"{path}: byte {error.start + 1} is not UTF-8"
        raise section.problem("config", problem, f"file {path}") from None
    try:
        table = read_toml(text, str(path))
        return parse_endpoint(table.string("local" if "local" in table else "listen")).name
    except DirectoryError as error:
        raise section.problem("config", f"{path}: {error.error}", error.fix) from None


def same_device(a: str, b: str) -> bool:
    first, second = parse_device(a), parse_device(b)
    if first.pci or second.pci:
        return bool(set(first.pci) & set(second.pci))
    return a.partition(",")[0] == b.partition(",")[0]


def check_absolute(text: str) -> None:
    if not text.startswith("/"):
        raise ValueError(f'"{text}" is no absolute path such as /run/vnet/gw1')


def check_interface(text: str) -> None:
    if not _INTERFACE.fullmatch(text) or text in (".", ".."):
        raise ValueError(
            f'"{text}" is no interface name: at most {INTERFACE_BYTES} characters, no spaces or /'
        )


def check_interface_address(text: str) -> None:
    try:
        address = IPv4Interface(text)
    except ValueError:
        raise ValueError(
            f'"{text}" is no IPv4 address with its prefix length, such as 192.0.2.1/24'
        ) from None
    if "/" not in text:
        raise ValueError(f'"{text}" lacks its prefix length: "{text}/24"')
    check_unicast(address.ip)
    network = address.network
    if network.prefixlen < 8:
        raise ValueError(f'"{text}": such a prefix takes nearly all addresses, "{address.ip}/24" does not')
    ends = (network.network_address, network.broadcast_address)
    if network.prefixlen < 31 and address.ip in ends:
        word = "network" if address.ip == ends[0] else "broadcast"
        raise ValueError(f"{address.ip} is the {word} address of {network}, and no host's")


def check_locator(text: str) -> None:
    try:
        address = IPv4Address(text)
    except ValueError:
        raise ValueError(f'"{text}" is no IPv4 address such as 192.0.2.1') from None
    check_unicast(address)


def check_unicast(address: IPv4Address) -> None:
    never = NEVER_FORWARDED.get(address.packed[0])
    if never is not None:
        raise ValueError(f"{address} is in {never}: no address to which other nodes could send")


def check_listen(text: str) -> None:
    match = _LISTEN.fullmatch(text)
    if match is None or not 0 < int(match[2]) < 65_536:
        raise ValueError(f'"{text}" is no address to listen on, such as 127.0.0.1:9464')
