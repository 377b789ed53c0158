# SPDX-License-Identifier: Apache-2.0
"""What one node, or one screen, needs to know of the model, and what a change makes of it."""
