# SPDX-License-Identifier: Apache-2.0
"""How large a message may be: one place for both ends. Nothing is imported, so that tools start fast."""

HEAD_BYTES_MAX = 65_536
TEXT_BYTES_MAX = 16 * 1024 * 1024
DOCUMENT_BYTES_MAX = TEXT_BYTES_MAX - HEAD_BYTES_MAX  # room for what else an apply says
