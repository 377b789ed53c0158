# SPDX-License-Identifier: Apache-2.0
"""Adds endpoints to a V-net, one for each line of its standard input, and prints when it asked and was
answered: seconds of the monotonic clock.

    python benchmarks/changer.py ipc:///run/directory v0 gw1"""

from __future__ import annotations

import json
import sys
import time

from directory_client.client import DirectoryClient


def main() -> None:
    endpoint, vnet, node = sys.argv[1:4]
    tool = DirectoryClient([endpoint], give_up_s=60.0)
    tool.call("list", kind="sites", timeout_s=60.0)  # connected
    print("ready", flush=True)
    for number, _ in enumerate(sys.stdin):
        values = {
            "addresses": [f"10.200.{number >> 8}.{number & 255}"],
            "mac": f"02:00:ee:00:{number >> 8:02x}:{number & 255:02x}",
            "node": node,
        }
        begin = time.monotonic()
        tool.call(
            "set", kind="endpoint", name=f"{vnet}/new{number}", values=values, wait_ms=0, timeout_s=60.0
        )
        print(json.dumps([begin, time.monotonic()]), flush=True)
    tool.close()


if __name__ == "__main__":
    main()
