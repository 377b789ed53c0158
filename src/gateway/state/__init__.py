# SPDX-License-Identifier: Apache-2.0
"""What control knows, and the steps by which it asks for more."""
