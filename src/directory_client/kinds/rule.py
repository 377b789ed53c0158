# SPDX-License-Identifier: Apache-2.0
"""Rules, as operators know them."""

from directory_client.kinds.noun import OWNED, Column, Noun, Option

RULE = Noun(
    "rule",
    "rules",
    of_vnet=True,
    help="Rules: who may talk to whom in a V-net, named VNET/NAME.",
    example="vnetctl rule add red/ssh-from-web --from group:web --to group:db --proto tcp --port 22",
    options=(
        Option("--action", "action", "allow (if not said) or deny"),
        Option("--from", "from", "An endpoint, group:NAME, a prefix, or any"),
        Option("--to", "to", "Likewise"),
        Option("--proto", "proto", "tcp, udp, icmp, a number, or any"),
        Option("--port", "ports", "A destination port or range: 443, 8000-8080", "many", digits=True),
        Option(
            "--direction",
            "direction",
            "both (if not said): answers may come back, from the port to ports that clients use; or forward: "
            "only the way there",
        ),
        Option(
            "--answer-port",
            "answer_ports",
            "A port or range that answers may lead to [32768-65535]",
            "many",
            digits=True,
        ),
        Option(
            "--priority",
            "priority",
            "The highest is judged first; of equal ones deny before allow [100]",
            "number",
        ),
    ),
    added_with={"action": "allow"},
    columns=(
        Column("rule", "name"),
        Column("action", "action"),
        Column("from", "from"),
        Column("to", "to"),
        Column("proto", "proto", rank=1),
        Column("ports", "ports", "list", rank=1),
        Column("priority", "priority", right=True),
        *OWNED,
    ),
)
