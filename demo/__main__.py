# SPDX-License-Identifier: Apache-2.0
"""`make demo`: carry real traffic between two tenants' networks, end to end, and break things meanwhile."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys

from demo import lab
from demo.gateways import RUN, DemoError, stop
from demo.report import Report
from demo.steps import STEPS

TRY = f"""
left running. Try, from the project's folder:
  alias vnetctl=".venv/bin/vnetctl --socket {RUN}/ams-gw/gateway.sock"
  vnetctl show
  vnetctl show flows
  vnetctl explain red web-1 db-1 tcp 5432
  vnetctl apply -f {RUN}/topology.toml --dry-run      (change the file first)
  ip netns exec {lab.PREFIX}red-web-1 ping 10.0.0.12
remove it all:  make demo-clean
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave it running and say what to try")
    parser.add_argument("--clean", action="store_true", help="only remove what an earlier run left")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("error: the demo makes network namespaces and TAPs\nfix:   run it as root", file=sys.stderr)
        return 2
    lab.remove()
    if options.clean:
        return 0
    report = Report()
    failure = None
    try:
        for step in STEPS:
            step(report)
    except (Exception, KeyboardInterrupt) as error:  # whatever it was, the report and the clean-up come
        failure = f"{type(error).__name__}: {error}"
    report.print_summary()
    if failure:
        print(f"error: the demo stopped early: {failure}\nfix:   look into {RUN}/*.log", file=sys.stderr)
    if options.keep and not failure:
        print(TRY)
    else:
        with contextlib.suppress(DemoError):  # what does not end by itself is ended with its namespace
            stop()
        lab.remove()
    return 0 if report.all_held and not failure else 1


if __name__ == "__main__":
    sys.exit(main())
