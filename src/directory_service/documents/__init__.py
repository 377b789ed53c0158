# SPDX-License-Identifier: Apache-2.0
"""From what an operator wants to one transaction, and its history."""
