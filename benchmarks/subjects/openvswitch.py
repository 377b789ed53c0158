# SPDX-License-Identifier: Apache-2.0
"""Open vSwitch's userspace datapath on DPDK, tuned as its manual says, without Debian's service.

An ovsdb-server and an ovs-vswitchd of our own, with files and sockets in a directory of the run and a network
namespace for the bridges' interfaces. One polling thread on the poll processor, all other threads on the
others. The signature match cache is on, the exact match cache as by default, the flow limit far above the
test from the start (by itself it begins at 10 000 and grows by 1 000 a second), and flows live as long as the
test, pauses included."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.machine import output_of
from benchmarks.scenario import Scenario
from benchmarks.sources import eal, output, pcap_file, traffic
from benchmarks.sources.feed import Feed, fed
from benchmarks.sources.output import Judge
from benchmarks.sources.traffic import Traffic
from benchmarks.subject import Bed, CannotMeasure, Sample, Setup, next_look_s, not_root
from benchmarks.subjects import openvswitch_rules as rules
from benchmarks.subjects.child import Child, run
from benchmarks.subjects.openvswitch_control import Control, Counters, listens

SWITCH = Path("/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk")
SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
PACKAGE = "openvswitch-switch-dpdk"
POOL_BUFFERS = 262_144  # what it takes for its shared pool, if there is memory for it
FLOW_LIMIT = 4_000_000
UNDERLAY_MTU = 1600
MEMBER, UNDERLAY, CAPTURE = "member", "uplink", "capture"
CAPTURED = 2000  # packets looked at


class OpenVSwitch:
    """`per_destination`: the friendlier rules, whose cached flows do not tell senders apart."""

    def __init__(self, per_destination: bool = False) -> None:
        self.name = "openvswitch-per-destination" if per_destination else "openvswitch"
        self._per_destination = per_destination

    def missing(self) -> str | None:
        if not SWITCH.exists():
            return f"{SWITCH} is not there; apt install {PACKAGE}"
        for program in ("ovsdb-server", "ovsdb-tool", "ovs-vsctl", "ovs-ofctl"):
            if not shutil.which(program):
                return f"{program} is not installed; apt install {PACKAGE}"
        return not_root()

    def versions(self) -> Mapping[str, str]:
        return {"openvswitch": output_of(["dpkg-query", "-W", "-f=${Version}", PACKAGE]) or "unpackaged"}

    def start(self, scenario: Scenario, bed: Bed) -> AbstractContextManager[RunningSwitch]:
        if scenario.outer != "ipv4":
            raise CannotMeasure("the rules written for it have an IPv4 underlay")
        if scenario.hops > 1:
            raise CannotMeasure("its tunnel takes its next hop from one route")
        if scenario.source == "testpmd":
            raise CannotMeasure("a memif source takes one queue, Open vSwitch always has two; use pcap")
        return _started(traffic.of(scenario), scenario.source, bed, self._per_destination)


def options(bed: Bed) -> dict[str, str]:
    """Keys of the database's other_config."""
    poll_mask = f"{1 << bed.poll_cpu:x}"
    other_mask = f"{sum(1 << cpu for cpu in bed.other_cpus):x}"
    memory = eal.memory(bed.hugepages, POOL_BUFFERS)
    # It adds --in-memory by itself unless told --legacy-mem, and the former excludes --no-huge.
    memory = [] if bed.hugepages else [*memory, "--legacy-mem"]
    ports = [part for port in bed.ports for part in ("-a", port)] if bed.ports else ["--no-pci"]
    return {
        "dpdk-init": "true",
        "dpdk-lcore-mask": other_mask,
        "dpdk-extra": " ".join([*memory, *ports, "--file-prefix=openvswitch"]),
        "pmd-cpu-mask": poll_mask,
        "smc-enable": "true",
        "flow-limit": str(FLOW_LIMIT),
        "n-handler-threads": str(len(bed.other_cpus)),
        "n-revalidator-threads": str(len(bed.other_cpus)),
        "max-idle": str(24 * 3600 * 1000),
        "min-revalidate-pps": "0",
    }


class _Switch:
    """The two daemons' files, and commands to them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {
            "OVS_RUNDIR": str(directory),
            "OVS_LOGDIR": str(directory),
            "OVS_DBDIR": str(directory),
            "RUNTIME_DIRECTORY": str(directory),
        }
        self.database = f"unix:{directory}/db.sock"
        self.control_path = directory / "switch.ctl"

    def configure(self, *commands: str, wait: bool = True) -> None:
        """Run ovs-vsctl; each command in one string, arguments divided by blanks."""
        words = [word for command in commands for word in ("--", *command.split(" "))]
        run(["ovs-vsctl", f"--db={self.database}", "--timeout=60", *([] if wait else ["--no-wait"]), *words])

    def add_rules(self, bridge: str, lines: Iterator[str]) -> None:
        text = "".join(f"{line}\n" for line in lines)
        run(self._openflow("add-flows", bridge, "-"), text=text)

    def delete_rule(self, bridge: str, line: str) -> None:
        match = line.rpartition(",actions=")[0]
        run(self._openflow("--strict", "del-flows", bridge, match))

    def _openflow(self, *words: str) -> list[str]:
        place = {"members", "underlay"}
        named = [f"unix:{self.directory}/{word}.mgmt" if word in place else word for word in words]
        return ["ovs-ofctl", "-O", "OpenFlow13", *named]


@contextmanager
def _started(sent: Traffic, source: str, bed: Bed, per_destination: bool) -> Iterator[RunningSwitch]:
    with TemporaryDirectory(prefix="openvswitch-", dir=bed.directory) as name:
        directory = Path(name)
        switch = _Switch(directory)
        file = directory / "source.pcap"
        frames = pcap_file.write(file, traffic.frames(sent))
        with (
            fed(source, bed, directory, file, frames) as feed,
            _database(switch, bed),
            _daemon(switch, bed) as daemon,
        ):
            control = Control(switch.control_path)
            running = RunningSwitch(switch, daemon, feed, control, sent)
            _bridges(switch, control, daemon, sent)
            switch.add_rules("members", rules.rules(sent, per_destination))
            switch.add_rules("members", iter([rules.closed(sent)]))
            switch.add_rules("underlay", rules.underlay_rules())
            _ports(switch, feed.wiring, sent)
            feed.begin()
            control.ask("upcall/set-flow-limit", str(FLOW_LIMIT))
            if not bed.ports:
                daemon.until(running.receives, "the source port receives")
            running.pause()
            yield running
            control.close()


@contextmanager
def _database(switch: _Switch, bed: Bed) -> Iterator[None]:
    file = switch.directory / "conf.db"
    run(["ovsdb-tool", "create", str(file), str(SCHEMA)])
    command = [
        "ovsdb-server",
        str(file),
        f"--remote=p{switch.database}",
        f"--unixctl={switch.directory}/database.ctl",
    ]
    with Child(
        command, switch.directory / "database.log", bed.other_cpus, environment=switch.environment
    ) as child:
        child.until((switch.directory / "db.sock").exists, "the database listens")
        yield


@contextmanager
def _daemon(switch: _Switch, bed: Bed) -> Iterator[Child]:
    switch.configure("init", wait=False)
    chosen = [f'other_config:{key}="{value}"' for key, value in options(bed).items()]
    run(["ovs-vsctl", f"--db={switch.database}", "--no-wait", "set", "Open_vSwitch", ".", *chosen])
    command = [str(SWITCH), switch.database, f"--unixctl={switch.control_path}"]
    with Child(
        command,
        switch.directory / "switch.log",
        bed.other_cpus,
        environment=switch.environment,
        new_network=True,
    ) as child:
        child.until(lambda: listens(switch.control_path), "ovs-vswitchd listens")
        yield child


def _bridges(switch: _Switch, control: Control, daemon: Child, sent: Traffic) -> None:
    """Bridges, the VXLAN port, and the underlay's address and neighbours."""
    local = traffic.LOCAL_ADDRESS
    switch.configure(
        "add-br members",
        "set bridge members datapath_type=netdev fail-mode=secure",
        "add-br underlay",
        "set bridge underlay datapath_type=netdev fail-mode=secure "
        f"other-config:hwaddr={traffic.UNDERLAY_MAC.hex(':')}",
        "add-port members tunnels",
        "set interface tunnels type=vxlan options:remote_ip=flow options:key=flow "
        f"options:local_ip={local} ofport_request={rules.TUNNEL_PORT}",
    )
    inside = ["nsenter", f"--net=/proc/{daemon.pid}/ns/net", "ip"]
    run([*inside, "address", "add", f"{local}/{traffic.UNDERLAY_BITS}", "dev", "underlay"])
    run([*inside, "link", "set", "underlay", "up"])
    daemon.until(lambda: f"{local}/32 dev underlay" in control.ask("ovs/route/show"), "the route is known")
    for address, mac in traffic.neighbours(sent).items():
        control.ask("tnl/neigh/set", "underlay", address, mac)


def _ports(switch: _Switch, wiring: eal.Wiring, sent: Traffic) -> None:
    source, sink = (MEMBER, UNDERLAY) if sent.direction == "encap" else (UNDERLAY, MEMBER)
    for port, device in ((sink, wiring.sink), (source, wiring.source)):
        bridge, number = (
            ("members", rules.MEMBER_PORT) if port == MEMBER else ("underlay", rules.UNDERLAY_PORT)
        )
        switch.configure(
            f"add-port {bridge} {port}",
            f"set interface {port} type=dpdk options:dpdk-devargs={device} ofport_request={number}"
            + (f" mtu_request={UNDERLAY_MTU}" if port == UNDERLAY else ""),
        )


class RunningSwitch:
    """An ovs-vswitchd, closed to packets until it is resumed for the first time."""

    def __init__(self, switch: _Switch, daemon: Child, feed: Feed, control: Control, sent: Traffic) -> None:
        self._switch, self._daemon, self._feed = switch, daemon, feed
        self._control, self._sent = control, sent
        self._source, self._sink = (MEMBER, UNDERLAY) if sent.direction == "encap" else (UNDERLAY, MEMBER)
        self._bridge = "underlay" if sent.direction == "encap" else "members"
        self._open = False

    def resume(self) -> None:
        self._feed.resume()
        self._daemon.signal(signal.SIGCONT)
        if not self._open:
            self._switch.delete_rule("members", rules.closed(self._sent))
            self._open = True

    def pause(self) -> None:
        self._daemon.signal(signal.SIGSTOP)
        self._feed.pause()

    def receives(self) -> bool:
        return bool(self._control.counters()[0].received.get(self._source))

    def flows(self) -> int:
        return self._control.counters()[0].flows

    def sample(self, seconds: float) -> Sample:
        before, start_s = self._control.counters()
        time.sleep(seconds)
        after, end_s = self._control.counters()
        return Sample(self._sent_since(before, after), end_s - start_s, self._lost_since(before, after))

    def setup(self, seconds: float) -> Setup:
        """The rule that kept packets out has just been deleted and some flows are there already: what these
        took is taken from the rate of the others."""
        self.resume()
        before, start_s = self._control.counters()
        cpu_before_s = self._daemon.cpu_seconds()
        after, at_s = self._control.counters()
        while after.flows < self._sent.flows and at_s < start_s + seconds:
            time.sleep(next_look_s(at_s - start_s, after.flows, self._sent.flows))
            after, at_s = self._control.counters()
        cpu_s = self._daemon.cpu_seconds() - cpu_before_s
        whole = after.flows / max(after.flows - before.flows, 1)
        return Setup(
            min(after.flows, self._sent.flows),
            (at_s - start_s) * whole,
            cpu_s * whole,
            self._sent_since(before, after),
            self._lost_since(before, after),
        )

    def forget(self) -> None:
        self.resume()
        self._switch.add_rules("members", iter([rules.closed(self._sent)]))
        self._open = False
        self._daemon.until(self._emptied, "all flows are forgotten")
        self.pause()

    def _emptied(self) -> bool:
        """What came in before the rule stood may be cached after the deletion: until hardly any is left."""
        self._control.ask("revalidator/purge")
        self._control.ask("upcall/set-flow-limit", str(FLOW_LIMIT))
        return self._control.counters()[0].flows < 10

    def source_says(self) -> str | None:
        return self._feed.says()

    def verify(self) -> None:
        """Turn the output into a capture port: cached flows get the new action, all else stays as it is."""
        file = self._switch.directory / "output.pcap"
        self._switch.configure(
            f"add-port {self._bridge} {CAPTURE}",
            f"set interface {CAPTURE} type=dpdk options:dpdk-devargs=net_pcap9,tx_pcap={file} "
            f"ofport_request={rules.CAPTURE_PORT} mtu_request={UNDERLAY_MTU}",
        )
        self._turn_to_capture()
        least = min(CAPTURED, 64)
        self._daemon.until(lambda: file.exists() and file.stat().st_size > 1 << 20, "packets are captured")
        self.pause()
        Judge(self._sent).check(output.first(pcap_file.read(file), CAPTURED), least)

    def _turn_to_capture(self) -> None:
        if self._sent.direction == "encap":
            self._switch.add_rules("underlay", rules.underlay_rules(rules.CAPTURE_PORT))
            return
        to_members = rules.rules(self._sent)
        self._switch.add_rules(
            "members",
            (
                rule.replace(f"output:{rules.MEMBER_PORT}", f"output:{rules.CAPTURE_PORT}")
                for rule in to_members
                if rule.startswith("table=1")
            ),
        )

    def _sent_since(self, before: Counters, after: Counters) -> int:
        return after.sent[self._sink] - before.sent[self._sink]

    def _lost_since(self, before: Counters, after: Counters) -> int:
        return after.lost - before.lost + after.unsent[self._sink] - before.unsent[self._sink]
