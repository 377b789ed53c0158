# SPDX-License-Identifier: Apache-2.0
"""Sockets, processes and files of the directory."""
