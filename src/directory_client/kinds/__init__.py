# SPDX-License-Identifier: Apache-2.0
"""The kinds of records, as operators know them: one file each, listed in `nouns.py`. What the directory does
with a kind is said in the file of the same name in `directory_service/kinds`."""
