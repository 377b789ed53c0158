# SPDX-License-Identifier: Apache-2.0
"""Words that stand in files, on wires and on screens: addresses, names, numbers, reasons, scopes."""
