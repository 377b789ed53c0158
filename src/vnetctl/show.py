# SPDX-License-Identifier: Apache-2.0
"""`vnetctl show`: everything that can be looked at."""

from __future__ import annotations

import re
from typing import Any

import click
from rich.text import Text

from directory_client.kinds.nouns import NOUNS
from vnetctl.client import Answer
from vnetctl.details import details
from vnetctl.drops import COLUMNS as DROP_COLUMNS
from vnetctl.drops import drops
from vnetctl.errors import WRONG_INPUT, Failure
from vnetctl.overview import overview
from vnetctl.screens import SCREENS, SINGULAR
from vnetctl.session import Session, output_options, pass_session
from vnetctl.table import Column

WORDS = sorted({*SINGULAR, *SINGULAR.values()})
DURATION = re.compile(r"(\d+)(s|m|h)?")
FLOW_FILTERS = ("source", "destination", "protocol", "action", "reason")
TUNNELS_SHOWN = 50
FLOWS_MAX = 100_000  # that a gateway shows at once
OF_A_VNET = frozenset({"flows", *(noun.plural for noun in NOUNS if noun.of_vnet)})
OVERVIEW_TSV = tuple(
    Column(key, key)
    for key in (
        "node",
        "uptime_s",
        "version",
        "packets_per_s",
        "in_bits_per_s",
        "out_bits_per_s",
        "flows",
        "tunnels",
        "dropped_per_s",
    )
)

HELP = f"""Show NOUN, or how the gateway is.

\b
Of a gateway:     tunnels flows ports threads counters drops directories ingresses clients
Of the directory: {" ".join(noun.plural for noun in NOUNS)}

Singular with a name shows one thing: show tunnel 7, show endpoint red/web-1.
"""
EXAMPLES = """
\b
Examples:
  vnetctl show                                   how is this gateway?
  vnetctl show tunnels --at all
  vnetctl show tunnel 7
  vnetctl show flows --vnet red --sort rate --limit 4
  vnetctl show flows --vnet red --destination 10.0.0.0/28 --action drop
  vnetctl show drops --last 5m
  vnetctl show endpoints --vnet red --json
"""


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic in some releases only
    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        match = DURATION.fullmatch(str(value))
        if match is None:
            self.fail(f"{value!r} is no duration such as 30s, 5m or 1h", param, ctx)
        return int(match[1]) * {"s": 1, "m": 60, "h": 3600, None: 1}[match[2]]


def complete_noun(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [noun for noun in WORDS if noun.startswith(incomplete)]


@click.command(help=HELP, epilog=EXAMPLES)
@click.argument("noun", required=False, shell_complete=complete_noun)
@click.argument("name", required=False)
@click.option("--vnet", help="Only of this V-net.")
@click.option("--source", metavar="ADDRESS|PREFIX", help="Flows from there.")
@click.option("--destination", metavar="ADDRESS|PREFIX", help="Flows to there.")
@click.option("--protocol", metavar="NAME", help="Flows of tcp, udp, icmp …")
@click.option("--action", metavar="NAME", help="Flows that are encapsulate, deliver, drop …")
@click.option("--reason", metavar="NAME", help="Flows that are dropped for this reason.")
@click.option("--sort", help="Flows by rate, packets, bytes, idle, revision, source or destination.")
@click.option("--limit", type=click.IntRange(1), help="At most so many flows [100].")
@click.option("--no-rates", is_flag=True, help="Flows at once, without a second look for their rates.")
@click.option("--all", "everything", is_flag=True, help="All rows, however many.")
@click.option("--last", type=Duration(), metavar="5m", help="Drops of this time, at most 1h.")
@output_options
@pass_session
def show(session: Session, noun: str | None, name: str | None, everything: bool, **options: Any) -> None:
    """Show a noun, or how the gateway is."""
    if noun is None:
        show_overview(session)
        return
    plural = SINGULAR.get(noun, noun)
    if plural not in SCREENS and plural != "drops":
        raise Failure(
            f"there is nothing called {noun} to show",
            f"one of: {' '.join(sorted(SINGULAR.values()))}",
            WRONG_INPUT,
        )
    if noun in SINGULAR and noun != plural and name is None:
        raise Failure(
            f"which {noun}?", f"vnetctl show {noun} NAME    or all: vnetctl show {plural}", WRONG_INPUT
        )
    answer = session.ask("show", noun=plural, name=name, args=arguments(plural, everything, options))
    rows = answer.get("rows", [])
    if plural == "drops" and not session.plain:
        session.show_lines(drops(answer, session.layout, session.at == "all"))
        session.show_silent()
    elif plural == "threads" and not session.plain:
        show_threads(session, rows)
    elif name is not None and len(rows) == 1 and not session.plain:
        session.show_lines(details(rows[0], session.layout))
        session.show_silent()
    else:
        columns = DROP_COLUMNS if plural == "drops" else SCREENS[plural]
        shown = rows if everything or session.plain or plural != "tunnels" else rows[:TUNNELS_SHOWN]
        session.show_rows(columns, shown, below(session, plural, options, answer, len(rows) - len(shown)))


def show_overview(session: Session) -> None:
    """Show how one gateway is, or all are."""
    rows = session.ask("show", noun="overview").get("rows", [])
    if session.plain:
        session.show_rows(OVERVIEW_TSV, rows)
        return
    lines: list[Text] = []
    for row in rows:
        lines += [*([Text("")] if lines else []), *overview(row, session.layout)]
    session.show_lines(lines)
    session.show_silent()


def show_threads(session: Session, rows: list[dict[str, Any]]) -> None:
    poll = [row for row in rows if row.get("kind") != "slow-path"]
    workers = [row for row in rows if row.get("kind") == "slow-path"]
    session.show_rows(SCREENS["threads"], poll)
    if workers:
        session.show_lines([Text("")])
        session.show_rows(SCREENS["workers"], workers)


def arguments(plural: str, everything: bool, options: dict[str, Any]) -> dict[str, Any]:
    """Return a request's args; raises Failure for an option that the noun does not have."""
    args = {key: value for key, value in options.items() if value is not None}
    last, no_rates = args.pop("last", None), args.pop("no_rates", False)
    if last is not None:
        args["last_s"] = last
    if plural == "flows":
        args["rates"] = not no_rates
    if everything and plural == "flows":
        args["limit"] = FLOWS_MAX
    of_flows = {key for key in (*FLOW_FILTERS, "sort", "limit") if key in args}
    wrong = of_flows if plural != "flows" else set()
    wrong |= {"last"} if last is not None and plural != "drops" else set()
    if "vnet" in args and plural not in OF_A_VNET:
        raise Failure(f"{plural} are not of one V-net", f"vnetctl show {plural}", WRONG_INPUT)
    if wrong:
        option = sorted(wrong)[0]
        where = "drops" if option == "last" else "flows"
        raise Failure(f"--{option} is for {where}", f"vnetctl show {where} --{option} …", WRONG_INPUT)
    return args


def below(session: Session, plural: str, options: dict[str, Any], answer: Answer, hidden: int) -> list[str]:
    """Return what stands under a table."""
    units = session.layout.units
    rows = answer.get("rows", [])
    lines: list[str] = []
    if plural == "flows":
        of = f" of {options['vnet']}" if options.get("vnet") else ""
        nodes = sorted({str(row["node"]) for row in rows if row.get("node")})
        at = f" at {', '.join(nodes)}" if nodes else ""
        total = (answer.get("total") or len(rows) + (answer.get("more") or 0)) or 0
        rates = answer.get("rates_s")
        how = f"; packets/s over {rates:.0f} s, by samples of one in 64" if rates else ""
        lines.append(f"{units.count(len(rows))} of {units.count(total)} flows{of}{at}{how}")
    if plural == "tunnels":
        if hidden:
            lines.append(f"{units.count(len(rows) - hidden)} of {units.count(len(rows))} (--all)")
        for row in rows:
            if row.get("why"):
                since = f" since {units.clock(row['since'])}" if row.get("since") else ""
                fix = f"   {row['fix']}" if row.get("fix") else ""
                lines.append(f"{row['tunnel']}: {row['why']}{since}{fix}")
    if plural == "ports":
        lines += [
            f"{row['port']}: {row['exception_problem']}" for row in rows if row.get("exception_problem")
        ]
    return lines
