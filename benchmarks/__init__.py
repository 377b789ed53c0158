# SPDX-License-Identifier: Apache-2.0
"""The benchmarks: `python -m benchmarks`, `make bench`. docs/benchmarks.md says what is measured and how."""
