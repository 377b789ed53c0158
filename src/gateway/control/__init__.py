# SPDX-License-Identifier: Apache-2.0
"""Control's process: admin sockets, next hops, exception ports."""
