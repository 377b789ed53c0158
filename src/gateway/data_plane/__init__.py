# SPDX-License-Identifier: Apache-2.0
"""The Python of the data plane's process."""
