# SPDX-License-Identifier: Apache-2.0
"""What the directory tells of, a file for each kind of operation."""
