# SPDX-License-Identifier: Apache-2.0
"""The error for what an operator asked and cannot have."""


class Refused(Exception):
    """It cannot be done: `problem` says what and where, `fix` what to do; `code` is the exit status, 1 or
    2."""

    def __init__(self, problem: str, fix: str = "", code: int = 1) -> None:
        super().__init__(problem)
        self.problem = problem
        self.fix = fix
        self.code = code
