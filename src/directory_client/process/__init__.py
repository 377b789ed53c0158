# SPDX-License-Identifier: Apache-2.0
"""What every process of ours does the same way: logs, descriptors, systemd."""
