# SPDX-License-Identifier: Apache-2.0
"""What happens to a packet, and why: pure functions of the model."""
