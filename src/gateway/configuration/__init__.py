# SPDX-License-Identifier: Apache-2.0
"""gateway.toml: read, checked against the machine, proposed."""
