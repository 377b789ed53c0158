# SPDX-License-Identifier: Apache-2.0
"""The same decisions for thousands of rows at once."""
