# SPDX-License-Identifier: Apache-2.0
"""The world at one revision: records, V-nets, the fabric of nodes."""
