# SPDX-License-Identifier: Apache-2.0
"""Asks a directory one question after another until its standard input ends, then prints how long each took.

python benchmarks/prober.py ipc:///run/directory gw0 9"""

from __future__ import annotations

import json
import select
import sys
import time

import numpy as np
import zmq

from directory_client.client import DirectoryClient
from directory_client.events import Failed, Resolved
from directory_client.vocabulary.numbers import IngressKind, KeyClass
from directory_client.wire import rows

PAUSE_S = 0.001  # between an answer and the next question


def question(vni: int) -> np.ndarray:
    """From one of two neighbours to the other, whatever is decided."""
    table = np.zeros(1, rows.QUERY)
    table["vni"], table["key_class"], table["ingress_kind"] = vni, KeyClass.BRIDGED, IngressKind.ATTACHMENT
    for name, last in (("source", 1), ("destination", 2)):
        table[name][:, 12:] = (10, 9, 0, last)
    return table


def main() -> None:
    endpoint, node, vni = sys.argv[1], sys.argv[2], int(sys.argv[3])
    client = DirectoryClient([endpoint], node=node, role="slow-path", worker=7, workers=8, give_up_s=600.0)
    poller = zmq.Poller()
    for socket in client.sockets:
        poller.register(socket, zmq.POLLIN)
    table = question(vni)
    times: list[tuple[float, float]] = []
    said = False
    while True:
        id, asked, answer = client.send_resolve(table), time.monotonic(), None
        while answer is None:
            poller.poll(client.timeout_ms())
            answer = next(
                (one for one in client.receive() if isinstance(one, Resolved | Failed) and one.id == id), None
            )
            if select.select([sys.stdin], [], [], 0)[0]:  # the last one counts for as long as it took
                print(json.dumps([*times, (asked, time.monotonic() - asked)]), flush=True)
                client.close()
                return
        times.append((asked, time.monotonic() - asked))
        if isinstance(answer, Resolved) and not said:
            print("asks", flush=True)
            said = True
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    main()
