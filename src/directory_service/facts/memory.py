# SPDX-License-Identifier: Apache-2.0
"""Facts in memory: nothing outlives the process."""

from collections.abc import Callable

from directory_service.facts.contract import Fact


class MemoryFacts:
    """See contract.Facts."""

    def __init__(self) -> None:
        self._facts: dict[tuple[str, str], Fact] = {}
        self._serial = 0

    @property
    def serial(self) -> int:
        return self._serial

    def put(self, owner: str, key: str, value: bytes, expires_s: float) -> bool:
        before = self._facts.get((owner, key))
        if before is not None and before.value == value:
            self._facts[owner, key] = before._replace(expires_s=expires_s)
            return False
        self._serial += 1
        self._facts[owner, key] = Fact(owner, key, value, expires_s, self._serial)
        return True

    def remove(self, owner: str, key: str) -> bool:
        if self._facts.pop((owner, key), None) is None:
            return False
        self._serial += 1
        return True

    def of_key(self, key: str) -> list[Fact]:
        return sorted(fact for fact in self._facts.values() if fact.key == key)

    def since(self, serial: int) -> list[Fact]:
        found = [fact for fact in self._facts.values() if fact.serial > serial]
        return sorted(found, key=lambda fact: fact.serial)

    def expire(self, now_s: float) -> list[Fact]:
        gone = [fact for fact in self._facts.values() if fact.expires_s <= now_s]
        for fact in gone:
            self.remove(fact.owner, fact.key)
        return gone

    def flush(self) -> None:
        pass

    def write_by(self, do: Callable[[Callable[[], None]], None]) -> None:
        pass

    def close(self) -> None:
        self.flush()
