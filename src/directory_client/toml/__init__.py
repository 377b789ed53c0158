# SPDX-License-Identifier: Apache-2.0
"""Read TOML strictly, with lines and remedies, and write it."""
