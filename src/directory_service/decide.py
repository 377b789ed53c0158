# SPDX-License-Identifier: Apache-2.0
"""decide: a pure function of snapshot, query and time."""
