# SPDX-License-Identifier: Apache-2.0
"""From misses to decisions: one worker's process and its mind."""
