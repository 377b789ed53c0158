# SPDX-License-Identifier: Apache-2.0
"""vnetctl: the operator's tool. Imports nothing of the gateway and nothing compiled: it runs on a laptop."""
