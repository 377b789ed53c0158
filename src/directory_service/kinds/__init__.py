# SPDX-License-Identifier: Apache-2.0
"""The kinds of records: their fields, and their typed forms."""
