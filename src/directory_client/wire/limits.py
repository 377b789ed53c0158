# SPDX-License-Identifier: Apache-2.0
"""How large a message may be, and what is in it: one place for both ends. Nothing is imported, so that tools
start fast."""

# bytes
HEAD_BYTES_MAX = 65_536
TEXT_BYTES_MAX = 16 * 1024 * 1024
RESOLVE_BYTES_MAX = 256 * 1024  # that a gateway asks at once: 2048 rows
AT_ONCE_BYTES_MAX = TEXT_BYTES_MAX - HEAD_BYTES_MAX  # of a document that is sent whole: an apply says more
DOCUMENT_BYTES_MAX = 256 * 1024 * 1024  # of one that is sent in pieces
PIECE_BYTES = 1024 * 1024
ANSWER_BYTES_MAX = 256 * 1024 * 1024  # of any kind, from a directory or a gateway
ADMIN_BYTES_MAX = TEXT_BYTES_MAX + 1024 * 1024  # of an operator's request to a gateway
EXPORT_PIECE_CHARACTERS = 2 * 1024 * 1024
PROGRESS_BYTES_MAX = 1_024  # what is longer is an answer
INBOX_BYTES_MAX = 65_536
TOPIC_BYTES_MAX = 64

# nesting
DEPTH_MAX = 32  # of what is passed on; msgpack packs less deep than it unpacks

# characters
NAME_MAX = 63
ROLE_MAX = 32
INSTANCE_MAX = 64
NOTICE_TEXT_MAX = 400

# items
FACTS_MAX = 64  # locators, ports, or V-nets without room, in a heartbeat
WORKERS_MAX = 64  # of a gateway's slow path
NOTICES_MAX = 16
FEATURES_MAX = 64
TABLES_MAX = 16  # of a gateway in which something finds no room
VNETS_SHOWN_MAX = 16  # of those that find none in one
BUCKETS_MAX = 64  # of a histogram
COUNTERS_MAX = 256  # of a worker
NAMES_TOLD_MAX = 256  # with one report of a worker
IDS_MAX = 4_096  # whose names are asked at once
HISTORY_ROWS_MAX = 100_000
DIFF_ROWS_MAX = 100_000  # of a change's answer; the rest is counted

# numbers
HELD_S_MAX = 1e10
LIFETIME_MS_MIN = 1_000  # of a decision: gateways keep a life to the second, rounded down
EVERY_S_MAX = 1_200  # a third of the longest leases.node_s
WAIT_MS_MAX = 30_000  # the longest that an answer may be waited for on request
