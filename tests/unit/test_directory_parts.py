# SPDX-License-Identifier: Apache-2.0
"""ZAP answers, rates, the audit file and the metrics page."""

from __future__ import annotations

import json
import os
import socket

import pytest
import zmq

from directory_client.endpoint import parse_endpoint
from directory_service.configuration import Client, Configuration
from directory_service.protocol.audit import AuditFile
from directory_service.protocol.authentication import ZAP_DOMAIN, Authenticator, Identity
from directory_service.protocol.dispatcher import Dispatcher
from directory_service.rates import KEYS_MAX, Rates
from directory_service.server.metrics import DirectoryCollector, MetricsPage
from fake_directory import FakeDirectory


def zap(
    key: bytes, mechanism: bytes = b"CURVE", domain: bytes = ZAP_DOMAIN, version: bytes = b"1.0"
) -> list[bytes]:
    return [b"peer", b"", version, b"77", domain, b"10.0.0.1", b"id", mechanism, key]


def test_zap_knows_a_client_by_its_key():
    public, _ = zmq.curve_keypair()
    authenticator = Authenticator([Client("gw1", public, "gateway")])
    raw = zmq.utils.z85.decode(public)
    assert authenticator.answer(zap(raw)) == [b"peer", b"", b"1.0", b"77", b"200", b"OK", public, b""]
    assert authenticator.identify(public.decode()) == Identity("gw1", "gateway")
    assert authenticator.identify("somebody") is None


@pytest.mark.parametrize(
    "request_frames",
    [
        zap(b"\0" * 32),
        zap(b"short"),
        zap(b"\0" * 32, mechanism=b"PLAIN"),
        zap(b"\0" * 32, mechanism=b"NULL"),
        zap(b"\0" * 32, domain=b"global"),
    ],
)
def test_zap_refuses_everybody_else(request_frames):
    answer = Authenticator([]).answer(request_frames)
    assert answer is not None
    assert answer[4] == b"400"


def test_zap_ignores_what_is_no_request():
    authenticator = Authenticator([])
    assert authenticator.answer([]) is None
    assert authenticator.answer([b"peer", b"", b"1.0"]) is None
    assert authenticator.answer(zap(b"\0" * 32, version=b"2.0")) is None


def test_a_rate_lets_a_second_through_and_refills():
    rates = Rates(10)
    assert rates.take("a", 8, 0.0) == 8
    assert rates.take("a", 8, 0.0) == 2
    assert rates.take("b", 3, 0.0) == 3
    assert rates.take("a", 8, 0.5) == 5
    assert rates.take("a", 80, 99.0) == 10


def test_rates_keep_a_bounded_number_of_keys():
    rates = Rates(1)
    for key in range(KEYS_MAX + 10):
        rates.take(key, 1, 0.0)
    assert len(rates._buckets) <= KEYS_MAX


def test_the_audit_file_is_json_lines_and_follows_rotation(tmp_path):
    path = tmp_path / "log" / "audit.jsonl"
    audit = AuditFile(path)
    audit.write({"time_ms": 1_700_000_000_123, "who": "anna", "name": "a\nb"})
    path.rename(tmp_path / "old")
    audit.write({"time_ms": 1_700_000_000_123, "who": "bob", "values": {"key": b"\xff"}})
    audit.close()
    (line,) = (tmp_path / "old").read_text().splitlines()
    assert json.loads(line) == {"time": "2023-11-14T22:13:20.123Z", "who": "anna", "name": "a\nb"}
    assert json.loads(path.read_text())["who"] == "bob"
    os.umask(umask := os.umask(0))
    assert path.stat().st_mode & 0o777 == 0o640 & ~umask


def get(page: MetricsPage, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", page.port)) as client:
        client.setblocking(False)
        client.send(request)
        answer = b""
        for _ in range(10_000):
            page.serve(0.0)
            try:
                data = client.recv(65_536)
            except BlockingIOError:
                continue
            if not data:
                return answer
            answer += data
    raise AssertionError(answer)


def test_the_metrics_page_shows_the_counters():
    configuration = Configuration("d", parse_endpoint("ipc:///run/x"), None)
    dispatcher = Dispatcher(configuration, FakeDirectory(), 1, 0.0)
    dispatcher.counters.update(requests_resolve=3, malformed=2)
    page = MetricsPage("127.0.0.1", 0, DirectoryCollector(dispatcher, lambda: 0.0))
    try:
        text = get(page, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert text.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b'vnet_directory_requests_total{type="resolve"} 3.0\n' in text
        assert b"vnet_directory_malformed_total 2.0\n" in text
        assert b"vnet_directory_revision 41.0\n" in text
        assert get(page, b"POST / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 405")
        assert get(page, b"GET /x HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 404")
        assert get(page, b"\xff" * 9_000) == b""
    finally:
        page.close()


def test_a_slow_reader_of_metrics_is_cut_off():
    configuration = Configuration("d", parse_endpoint("ipc:///run/x"), None)
    dispatcher = Dispatcher(configuration, FakeDirectory(), 1, 0.0)
    page = MetricsPage("127.0.0.1", 0, DirectoryCollector(dispatcher, lambda: 0.0))
    try:
        with socket.create_connection(("127.0.0.1", page.port)) as client:
            page.serve(0.0)
            assert len(page.descriptors()) == 2
            page.serve(2.1)
            assert len(page.descriptors()) == 1
            assert client.recv(1) == b""
    finally:
        page.close()
