# SPDX-License-Identifier: Apache-2.0
"""The parent and what it starts."""
