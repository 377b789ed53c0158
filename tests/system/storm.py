# SPDX-License-Identifier: Apache-2.0
"""A gateway and its directory in a storm: processes are killed and stopped, singly and together, the cable
between the two is pulled, the clock steps, the disk fills up, the store is restored, while packets pass, a
rule is flipped and an endpoint moves.

What must hold is checked on the packets, against what was acknowledged:

    closed      no packet that was sent after an acknowledged revocation, or move away, arrives
    cached      no packet of a cached flow that is allowed all the time is lost, unless a data plane died
    kept        what was acknowledged is what the directory holds
    back        when the storm is over, everything works, and a change is in force everywhere

    make storm SECONDS=600 SEED=7
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cable import Cable
from gateway_lab import DOCUMENT, MOVER, Lab, Stream, until

from directory_client.client import DirectoryClient
from directory_client.wire.messages import DirectoryError

HERE = Path(__file__).resolve().parent
HOUR_S, DAY_S = 3_600, 86_400
STEPS_S = (HOUR_S, -HOUR_S, DAY_S, -DAY_S, 100 * DAY_S, -100 * DAY_S)
STATE_BYTES = 64 << 20
PAUSE_S = (0.05, 0.8)  # between two events
STOP_S = (0.1, 2.5)
PART_S = (0.2, 4.0)
PROCESSES = ("slow-path-0", "control", "data-plane", "data-plane-1", "parent")
BACK_S = 60.0
STEADY_PORT, FLIPPED_PORT, MOVED_PORT = 5000, 6000, 7000


class Wanted(NamedTuple):
    """What a document says: whether the flipped flow may pass, and whether c is where we listen."""

    allowed: bool
    c_is_there: bool

    def text(self) -> str:
        """The document."""
        ports = [STEADY_PORT, MOVED_PORT] + [FLIPPED_PORT] * self.allowed
        rules = [
            f'[vnet.red.rule.p{port}]\naction = "allow"\nfrom = "any"\nto = "any"\n'
            f'proto = "udp"\nports = [{port}]\n'
            for port in ports
        ]
        place = "pb" if self.c_is_there else "pa"
        address, mac = MOVER
        mover = f'c = {{ addresses = ["{address}"], mac = "{mac}", at = ["lab/{place}"] }}\n'
        return DOCUMENT + mover + "".join(rules)


class Interval(NamedTuple):
    """No packet of `port` that is sent in it may arrive."""

    port: int
    start: float
    end: float


class Storm:
    """One gateway, a directory of its own, three flows, and what happens to them."""

    def __init__(self, path: Path, seed: int, say: Callable[[str], None] = lambda line: None) -> None:
        self.random = random.Random(seed)
        self.path = path
        self.say = say
        self.begun = time.monotonic()
        self.events = 0
        self.closed: list[Interval] = []
        self.dead: list[float] = []  # when the data plane was killed
        self.hung: list[tuple[float, float]] = []  # when it stood: a TAP keeps what fits into its queue
        self.held: dict[int, float] = {}  # port -> since when it is closed
        self.may_be: set[Wanted] = set()  # what the directory may hold
        self.wanted = Wanted(True, True)
        self.backup: tuple[Path, Wanted] | None = None
        self.clock = path / "clock"
        self.clock.write_text("0")
        self.state = path / "state"
        self.state.mkdir()
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={STATE_BYTES}", "storm", str(self.state)], check=True
        )
        self.environment = {
            **os.environ,
            "STORM_CLOCK": str(self.clock),
            "PYTHONPATH": os.pathsep.join([str(HERE / "storm_clock"), *filter(None, sys.path)]),
        }
        self.config = path / "directory.toml"
        self.config.write_text(
            f'name = "storm"\nlisten = "ipc://{path}/dir"\n[limits]\nlate_ms = 5000\n'
            f'[store]\nkind = "sqlite"\npath = "{self.state}/directory.db"\n'
            f'[audit]\nfile = "{self.state}/audit.jsonl"\n'
        )
        self.log = (path / "directory.log").open("ab")
        self.tool("init")
        self.directory = self.serve()
        self.operator = DirectoryClient([f"ipc://{path}/dir"])
        self._before = dict(os.environ)
        os.environ.update(self.environment)  # for the parent, whenever it is started
        self.cable = Cable(path / "near", path / "dir")
        self.lab = Lab(path, served=f"ipc://{path}/near")
        self.steady = self.flipped = self.moved = None

    # ---- the parts -----------------------------------------------------------------------------

    def tool(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run vnet-directory VERB CONFIG …"""
        verb, *rest = words
        command = [sys.executable, "-m", "directory_service.main", verb, str(self.config), *rest]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)

    def serve(self) -> subprocess.Popen[bytes]:
        """Start the directory."""
        command = [sys.executable, "-m", "directory_service.main", "run", str(self.config)]
        return subprocess.Popen(command, env=self.environment, stderr=self.log)

    def supervise(self) -> None:
        """Start the directory anew if it has ended by itself, as systemd would: a disk that is full as it
        starts ends it, for one."""
        if self.directory.poll() is not None:
            self.say("the directory had ended by itself")
            self.directory = self.serve()

    def workers(self) -> list[int]:
        """The directory's own processes."""
        children = Path(f"/proc/{self.directory.pid}/task/{self.directory.pid}/children")
        with contextlib.suppress(OSError):
            return [int(word) for word in children.read_text().split()]
        return []

    # ---- changes, and what they promise ----------------------------------------------------------

    def change(self, wanted: Wanted, wait_ms: int = 4_000) -> bool:
        """Have a document applied; returns whether it was acknowledged as in force everywhere."""
        self.supervise()
        self.release(wanted)
        self.may_be.add(wanted)
        try:
            answer = self.operator.call(
                "apply", text=wanted.text(), name="lab.toml", user="storm", wait_ms=wait_ms, timeout_s=12.0
            )
        except DirectoryError as error:
            self.say(f"  not applied: {error.error}")
            return False
        now = time.monotonic()
        self.may_be = {wanted}
        states = {row["node"]: row["state"] for row in answer["gateways"]}
        if answer["revision"] != answer["before"] and set(states.values()) - {"applied"}:
            self.say(f"  {states}")
            return False
        if answer["revision"] == answer["before"]:
            return False  # nothing was asked of the gateway: it may be on its way yet
        for port, is_open in ((FLIPPED_PORT, wanted.allowed), (MOVED_PORT, wanted.c_is_there)):
            if not is_open:
                self.held.setdefault(port, now)
        return True

    def release(self, wanted: Wanted | None) -> None:
        """From now on packets may pass that a document allows (None: any)."""
        now = time.monotonic()
        for port, is_open in (
            (FLIPPED_PORT, wanted is None or wanted.allowed),
            (MOVED_PORT, wanted is None or wanted.c_is_there),
        ):
            if is_open and port in self.held:
                self.closed.append(Interval(port, self.held.pop(port), now))

    # ---- events ----------------------------------------------------------------------------------

    def flip(self, wait_ms: int = 4_000) -> None:
        """Open or close the flipped flow."""
        self.wanted = self.wanted._replace(allowed=not self.wanted.allowed)
        self.say(f"{'allow' if self.wanted.allowed else 'deny'}: {self.change(self.wanted, wait_ms)}")

    def move(self) -> None:
        """Move c."""
        self.wanted = self.wanted._replace(c_is_there=not self.wanted.c_is_there)
        self.say(f"c moves {'here' if self.wanted.c_is_there else 'away'}: {self.change(self.wanted)}")

    def kill(self) -> None:
        """Kill some processes of the gateway, mostly one."""
        count = self.random.choices([1, 2, 3], [4, 2, 1])[0]
        names = [name for name in self.random.sample(PROCESSES, count) if self.lab.pid(name)]
        if not names:
            return
        self.say(f"kill {', '.join(names)}")
        for name in names:
            if name.startswith("data-plane"):
                self.dead.append(time.monotonic())
            self.signal([self.lab.pid(name)], signal.SIGKILL)
        if "parent" in names:
            self.lab.parent.wait()
            self.lab.start()

    def hang(self) -> None:
        """Stop the data plane that forwards, flip the rule meanwhile, and then kill it or let it go on."""
        try:
            name, pid = self.lab.forwarding()
        except (OSError, StopIteration):  # none at this moment
            return
        ends = self.random.random() < 0.5
        self.say(f"{name} hangs{', and ends' if ends else ''}")
        stopped = time.monotonic()
        self.signal([pid], signal.SIGSTOP)
        self.flip(wait_ms=1_500)
        self.signal([pid], signal.SIGKILL if ends else signal.SIGCONT)
        self.hung.append((stopped, time.monotonic()))

    def part(self) -> None:
        """Pull the cable between gateway and directory for a while; what was under way late or never."""
        lost = self.random.random() < 0.5
        self.say(f"the cable is pulled{', connections end' if lost else ''}")
        self.cable.pull()
        end = time.monotonic() + self.random.uniform(*PART_S)
        while time.monotonic() < end:
            self.random.choice([self.flip, self.move, self.kill, self.pause])()
        if lost:
            self.cable.cut()
        self.cable.plug()

    def kill_directory(self) -> None:
        """Kill the directory, or one of its processes."""
        victim = self.random.choice([self.directory.pid, *self.workers()])
        self.say("kill the directory" if victim == self.directory.pid else "kill writer or reader")
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        if victim == self.directory.pid:
            self.directory.wait()
            self.pause()
            self.directory = self.serve()

    def stop(self) -> None:
        """Stop a process for a while: it is there, and does not answer."""
        name = self.random.choice(["slow-path-0", "control", "parent", "directory", "writer"])
        pids = {"directory": [self.directory.pid], "writer": self.workers()}.get(name) or [self.lab.pid(name)]
        self.say(f"stop {name}")
        for_s = self.random.uniform(*STOP_S)
        self.signal(pids, signal.SIGSTOP)
        goes_on = threading.Timer(for_s, self.signal, (pids, signal.SIGCONT))
        goes_on.start()
        if self.random.random() < 0.5:
            self.flip()
        goes_on.join()

    @staticmethod
    def signal(pids: Sequence[int], signum: signal.Signals) -> None:
        """Send a signal to those that live."""
        for pid in filter(None, pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)

    def step_clock(self) -> None:
        """Set the wall clock of all processes forward or back."""
        self.clock.write_text(str(int(self.clock.read_text()) + self.random.choice(STEPS_S)))
        self.say(f"the clock is {int(self.clock.read_text()) / DAY_S:+.1f} days off")

    def fill_disk(self) -> None:
        """Leave no room beside the store, and change something."""
        self.say("the disk is full")
        full = self.state / "full"
        with contextlib.suppress(OSError), full.open("wb") as file:
            while True:
                file.write(bytes(1 << 16))
                file.flush()
        self.flip()
        full.unlink()

    def back_up(self) -> None:
        """Copy the store, if it is known what it holds."""
        if len(self.may_be) != 1:
            return
        copy = self.path / f"copy-{self.events}.db"
        done = self.tool("backup", str(copy))
        self.say(f"backup: {done.stdout.strip() or done.stderr.strip()}")
        if done.returncode == 0:
            self.backup = (copy, next(iter(self.may_be)))

    def restore(self) -> None:
        """Put the newest copy in the place of the store: what was acknowledged since is given up."""
        if self.backup is None:
            return
        copy, held = self.backup
        self.directory.kill()
        self.directory.wait()
        self.release(None)
        for left in self.state.glob("*.before*"):
            left.unlink()
        done = until(lambda: (found := self.tool("restore", str(copy))).returncode == 0 and found, "restored")
        self.say(f"restore: {done.stdout.strip()}")
        self.may_be, self.wanted = {held}, held
        self.directory = self.serve()

    def pause(self) -> None:
        """Let some time pass."""
        time.sleep(self.random.uniform(*PAUSE_S))

    # ---- the storm ---------------------------------------------------------------------------------

    def blow(self, seconds: float) -> None:
        """Let it storm for so long."""
        until(lambda: self.change(self.wanted) or self._held() == self.wanted, "the first document", BACK_S)
        until(self.lab.has_taps, "the TAPs are up")
        with self.streams():
            weighed = {
                self.flip: 8,
                self.move: 4,
                self.kill: 5,
                self.kill_directory: 4,
                self.stop: 4,
                self.hang: 1,
                self.part: 3,
                self.step_clock: 2,
                self.fill_disk: 1,
                self.back_up: 2,
                self.restore: 1,
            }
            each = self.random.sample(list(weighed), len(weighed))  # of all something, however short it is
            each.sort(key=lambda event: event == self.restore)  # not before there is a copy
            end = time.monotonic() + seconds
            while each or time.monotonic() < end:
                self.events += 1
                event = each.pop(0) if each else self.random.choices(list(weighed), list(weighed.values()))[0]
                event()
                self.pause()
            self.calm()

    def calm(self) -> None:
        """The storm is over: everything must come back."""
        self.say("calm")
        self.clock.write_text("0")
        held = until(self._held, "the directory tells what it holds", BACK_S)
        assert held in self.may_be, f"the directory holds {held}, acknowledged was {self.may_be}"
        until(lambda: self.change(Wanted(False, False)) or self.change(Wanted(True, False)), "closed", BACK_S)
        until(lambda: self.change(Wanted(True, True)), "open again", BACK_S)
        for stream in (self.steady, self.flipped, self.moved):
            assert stream is not None
            stream.flowing()
        until(
            lambda: all(self.lab.pid(name) for name in ("parent", "control", "slow-path-0")),
            "all live",
            BACK_S,
        )
        self.release(None)

    def _held(self) -> Wanted | None:
        """Ask the directory what it holds."""
        self.supervise()
        try:
            rules = self.operator.call("list", kind="rules", vnet="red", timeout_s=10.0)["rows"]
            (c,) = self.operator.call("list", kind="endpoints", vnet="red", name="c", timeout_s=10.0)["rows"]
        except DirectoryError:
            return None
        return Wanted(f"red/p{FLIPPED_PORT}" in {row["name"] for row in rules}, c["at"] == ["lab/pb"])

    @contextlib.contextmanager
    def streams(self) -> Iterator[None]:
        """The three flows."""
        self.steady = Stream(self.lab, 200, "b", STEADY_PORT)
        self.flipped = Stream(self.lab, 100, "b", FLIPPED_PORT)
        self.moved = Stream(self.lab, 100, "c", MOVED_PORT)
        try:
            self.steady.flowing()
            yield
        finally:
            for stream in (self.steady, self.flipped, self.moved):
                stream.close()

    # ---- what must have held -------------------------------------------------------------------------

    def passed_closed(self) -> list[str]:
        """Packets that arrived though they were sent after an acknowledged revocation."""
        streams = {FLIPPED_PORT: self.flipped, MOVED_PORT: self.moved}
        found = []
        for interval in self.closed:
            stream = streams[interval.port]
            assert stream is not None
            late = [
                number for number in stream.received if interval.start < stream.sent_at[number] < interval.end
            ]
            if late:
                since = stream.sent_at[late[0]] - interval.start
                found.append(
                    f"port {interval.port}: {len(late)} packets, from {since * 1000:.1f} ms after it"
                )
        return found

    def lost_cached(self) -> list[int]:
        """Packets of the steady flow that were lost while the data plane lived."""
        stream = self.steady
        assert stream is not None
        lost = [number for number in range(stream.sent) if number not in stream.received]
        ends = [(at, at) for at in self.dead] + self.hung
        dead = [(start - 0.05, self._flows_again_at(end)) for start, end in ends]
        return [
            number
            for number in lost
            if not any(start <= stream.sent_at[number] <= end for start, end in dead)
            and stream.sent_at[number] >= min(stream.sent_at[one] for one in stream.received)
        ]

    def _flows_again_at(self, killed_at: float) -> float:
        """When the first packet was sent that arrived after a data plane had died, and the next ten did."""
        stream = self.steady
        assert stream is not None
        numbers = [n for n in range(stream.sent) if stream.sent_at[n] > killed_at + 0.01]
        run = 0
        for number, after in itertools.pairwise(numbers):
            run = run + 1 if number in stream.received and after in stream.received else 0
            if run >= 10:
                return stream.sent_at[number]
        return time.monotonic()

    def close(self) -> None:
        """End everything."""
        self.lab.close()
        self.cable.close()
        os.environ.clear()
        os.environ.update(self._before)
        self.operator.close()
        self.directory.kill()
        self.directory.wait()
        self.log.close()
        subprocess.run(["umount", "-l", str(self.state)], check=False)


def storm(path: Path, seconds: float, seed: int, say: Callable[[str], None] = lambda line: None) -> Storm:
    """Let it storm, and return what was seen. Raises AssertionError for what did not hold."""
    made = Storm(path, seed, say)
    try:
        made.blow(seconds)
    finally:
        made.close()
    assert made.passed_closed() == []
    lost = made.lost_cached()
    assert lost == [], (
        f"lost {[round(made.steady.sent_at[number] - made.begun, 2) for number in lost][:20]} s"
    )
    return made


def main() -> None:
    """Run a long storm and say what happens."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    chosen = parser.parse_args()
    begun = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - begun:8.2f} s  {line}", flush=True)

    with tempfile.TemporaryDirectory(prefix="storm") as folder:
        say(f"storm of {chosen.seconds:.0f} s, seed {chosen.seed}")
        try:
            made = storm(Path(folder), chosen.seconds, chosen.seed, say)
        except AssertionError as error:
            print(f"error: {error}")
            print(f"fix:   make storm SECONDS={chosen.seconds:.0f} SEED={chosen.seed} has the same events")
            sys.exit(1)
        steady: Any = made.steady
        say(f"all held: {made.events} events, {len(made.closed)} revocations, {steady.sent} steady packets")


if __name__ == "__main__":
    main()
