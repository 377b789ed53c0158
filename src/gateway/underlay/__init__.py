# SPDX-License-Identifier: Apache-2.0
"""What the kernel knows of the underlay: links, addresses, routes, neighbours."""
