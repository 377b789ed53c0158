# SPDX-License-Identifier: Apache-2.0
"""A thread that takes up what the store's writers have committed, while the server answers.

It reads with a store of its own and changes nothing: the server goes over to what it has made between two
messages. Python lets one thread run at a time; the switch interval says for how long the server may have to
wait for its turn.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable

from directory_service.model.snapshot import Snapshot
from directory_service.service import Directory
from directory_service.store.contract import Store, StoreError
from directory_service.views.steps import Said, Step

log = logging.getLogger(__name__)

SWITCH_S = 0.0005


class TakingUp:
    """See the module, and service.Apart. `open_store` is called in the thread; `wake` when a step is there,
    from the thread."""

    def __init__(
        self, directory: Directory, open_store: Callable[[], Store], wake: Callable[[], None]
    ) -> None:
        self._directory = directory
        self._open_store = open_store
        self._wake = wake
        self._base: Snapshot | None = None
        self._said: Said | None = None
        self._made: Step | None = None
        self._error: StoreError | None = None
        self._asked = threading.Event()
        self._ended = False
        self.busy = False
        self._thread = threading.Thread(target=self._run, name="taking-up", daemon=True)
        sys.setswitchinterval(SWITCH_S)
        self._thread.start()

    def ask(self, base: Snapshot, said: Said | None = None) -> None:
        """Have the steps made that follow this snapshot, with what gateways have `said`. Nothing happens
        while `busy`."""
        if not self.busy:
            self._said = said
            self._base, self.busy = base, True
            self._asked.set()

    def step(self) -> Step | None:
        """Return the step that has been made, once. Raises StoreError if it failed."""
        made, error = self._made, self._error
        if made is None and error is None:
            return None
        self._made = self._error = None
        self.busy = False
        if error is not None:
            raise error
        return made

    def end(self) -> None:
        """End the thread."""
        self._ended = True
        self._asked.set()
        self._thread.join(5.0)

    def _run(self) -> None:
        store: Store | None = None
        while True:
            self._asked.wait()
            self._asked.clear()
            if self._ended:
                break
            base, self._base, said = self._base, None, self._said
            if base is None:
                continue
            made: Step | None = None
            failed: StoreError | None = None
            try:
                store = store or self._open_store()
                made = self._directory.follow(store, base, said)
            except StoreError as error:
                failed = error
            except Exception as error:  # the thread must not end: the server would stand still for ever
                log.error("what the store has new cannot be taken up", exc_info=error)
                failed = StoreError(f"what it has new cannot be taken up: {error}")
            # Said last, and once: from then on the server may ask for the next step.
            if failed is not None:
                self._error = failed
            elif made is not None and made.snapshots:
                self._made = made
            else:
                self.busy = False
                continue
            self._wake()
        if store is not None:
            store.close()
