# SPDX-License-Identifier: Apache-2.0
"""What the directory's messages are made of: heads, rows, limits."""
