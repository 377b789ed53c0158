# SPDX-License-Identifier: Apache-2.0
"""Rows for vnetctl show, one file a group of nouns."""
