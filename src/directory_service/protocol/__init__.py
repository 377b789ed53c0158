# SPDX-License-Identifier: Apache-2.0
"""The directory's messages as functions of state, message and time."""
