#!/usr/bin/env python3
"""Questions to names that one core answers in a second: Mainstay beside gdnsd, Knot and NSD.

Needs dnsperf and at least one of gdnsd, knotd and nsd (Debian packages dnsperf, gdnsd, knot, nsd)
and a release build:

    cargo build --release && python3 bench/dns.py [--rounds 9] [--seconds 2] [--json]

Every server serves the same zones on loopback, with one thread for datagrams, on one processor;
dnsperf asks from the others, the same questions of all, as many as it gets answered. Each round
asks every server in turn, and the first round is thrown away. The figure is answers divided by the
processor time that the server itself took (from /proc), so that it holds whether or not the load
generator is the slower one.

gdnsd runs twice: with answers by region as its geoip plugin makes them, which is what Mainstay
does, and with plain zone files. Knot runs with plain zone files; so does NSD if `--rivals` names
it. Of the questions, 45 % are A, 45 % AAAA, 10 % names that do not exist; `subnet` adds EDNS with
a client's network.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
NAMES = [f"api{number}.example.com" for number in range(20)]
ADDRESSES = {
    "east": [("203.0.113.1", "2001:db8::1"), ("203.0.113.2", "2001:db8::2")],
    "west": [("203.0.113.3", "2001:db8::3"), ("203.0.113.4", "2001:db8::4")],
}
NETWORKS = {"east": "198.51.100.0/24", "west": "192.0.2.0/24"}
SOA = "@ SOA ns1.example.net. hostmaster.example.net. 1 3600 600 1209600 20\n@ NS ns1.example.net.\n"
# The option of RFC 7871 for 198.51.100.0/24, as dnsperf takes it.
MODES = {"plain": [], "subnet": ["-e", "-E", "8:00011800c63364"]}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def static_zone():
    lines = [f"@ A {v4}\n@ AAAA {v6}\n" for v4, v6 in ADDRESSES["east"]]
    return f"$TTL 20\n{SOA}{''.join(lines)}"


def write_zones(folder, text):
    folder.mkdir(parents=True)
    for name in NAMES:
        (folder / name).write_text(text)


class Server:
    """A server on one processor, on a port of its own."""

    def __init__(self, name, folder, cpu):
        self.name = name
        self.folder = folder / name.replace(" ", "-")
        self.folder.mkdir()
        self.port = free_port()
        command = getattr(self, name.split()[0])()
        log = open(self.folder / "log", "w")
        pinned = ["taskset", "-c", str(cpu), *command]
        self.process = subprocess.Popen(pinned, stdout=log, stderr=log)
        self.wait()

    def mainstay(self):
        config = self.folder / "mainstay.toml"
        targets = [
            f'[[dns.target]]\ngateway = "{region}-{at}"\naddresses = {json.dumps(pair)}\n'
            f'region = "{region}"\n'
            for region, pairs in ADDRESSES.items()
            for at, pair in enumerate(pairs)
        ]
        regions = [
            f'[[dns.region]]\nname = "{region}"\nnetworks = ["{network}"]\n'
            for region, network in NETWORKS.items()
        ]
        config.write_text(
            f'[listen]\napi = "127.0.0.1:0"\nadmin = "127.0.0.1:0"\ndns = "127.0.0.1:{self.port}"\n'
            f'[[site]]\nname = "up"\nprovider = "openai"\nbase_url = "http://127.0.0.1:9/v1"\n'
            f'key = "k"\n[[model]]\nname = "m"\nserved_by = ["up/m"]\n'
            f'[dns]\nnames = {json.dumps(NAMES)}\nns = ["ns1.example.net", "ns2.example.net"]\n'
            f'contact = "hostmaster@example.net"\n{"".join(targets + regions)}'
        )
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        program = os.environ.get("MAINSTAY_PROGRAM", str(target / "release" / "mainstay"))
        return [program, "serve", "--config", str(config)]

    def gdnsd(self):
        places = {region: [pair for both in pairs for pair in both] for region, pairs in ADDRESSES.items()}
        lists = lambda pairs: "[ " + ", ".join(pairs) + " ]"
        dcmap = ""
        for region, pairs in ADDRESSES.items():
            v4, v6 = lists([v4 for v4, _ in pairs]), lists([v6 for _, v6 in pairs])
            dcmap += f"{region} => {{ addrs_v4 => {v4}, addrs_v6 => {v6} }}\n"
        nets = "\n".join(f"{net} => [ {region} ]" for region, net in NETWORKS.items())
        (self.folder / "config").write_text(
            f"options => {{\n listen => 127.0.0.1\n dns_port => {self.port}\n udp_threads => 1\n"
            f" tcp_threads => 1\n run_dir => {self.folder}/run\n state_dir => {self.folder}/state\n}}\n"
            f"plugins => {{ geoip => {{\n service_types => up\n"
            f" maps => {{ m => {{ datacenters => [ {', '.join(places)} ], nets => {{ {nets} }} }} }}\n"
            f" resources => {{ api => {{ map => m, dcmap => {{ {dcmap} }} }} }}\n}} }}\n"
        )
        by_region = "static" not in self.name
        zone = f"$TTL 20\n{SOA}@ DYNA geoip!api\n" if by_region else static_zone()
        write_zones(self.folder / "zones", zone)
        return ["gdnsd", "-c", str(self.folder), "start"]

    def knot(self):
        write_zones(self.folder / "zones", static_zone())
        zones = "".join(f"  - domain: {name}\n    file: {name}\n" for name in NAMES)
        (self.folder / "knot.conf").write_text(
            f"server:\n  listen: 127.0.0.1@{self.port}\n  udp-workers: 1\n  tcp-workers: 1\n"
            f"  background-workers: 1\n  rundir: {self.folder}\ndatabase:\n  storage: {self.folder}/db\n"
            f"template:\n  - id: default\n    storage: {self.folder}/zones\n    zonefile-sync: -1\n"
            f"    journal-content: none\nzone:\n{zones}"
        )
        return ["knotd", "-c", str(self.folder / "knot.conf")]

    def nsd(self):
        write_zones(self.folder / "zones", static_zone())
        zones = "".join(f"zone:\n  name: {name}\n  zonefile: {name}\n" for name in NAMES)
        (self.folder / "nsd.conf").write_text(
            f'server:\n  ip-address: 127.0.0.1\n  port: {self.port}\n  server-count: 1\n'
            f'  username: ""\n  chroot: ""\n  zonesdir: {self.folder}/zones\n  database: ""\n'
            f"  pidfile: {self.folder}/pid\n  xfrdfile: {self.folder}/xfrd\n"
            f"  zonelistfile: {self.folder}/list\n  xfrdir: {self.folder}\n"
            f"remote-control:\n  control-enable: no\n{zones}"
        )
        return ["nsd", "-d", "-c", str(self.folder / "nsd.conf")]

    def wait(self):
        """Until it answers by datagram with two addresses."""
        question = b"\x12\x34\1\0\0\1\0\0\0\0\0\0\4api0\7example\3com\0\0\1\0\1"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.settimeout(0.2)
            for _ in range(100):
                try:
                    probe.sendto(question, ("127.0.0.1", self.port))
                    reply = probe.recv(512)
                    if reply[:2] == question[:2] and reply[7] == 2:
                        return
                except OSError:
                    time.sleep(0.05)  # waits for: the server to listen
        raise SystemExit(f"{self.name} does not answer: {(self.folder / 'log').read_text()}")

    def processes(self):
        """Its process and those that it started."""
        found, rest = [], [self.process.pid]
        while rest:
            pid = rest.pop()
            found.append(pid)
            for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
                rest += map(int, (task / "children").read_text().split())
        return found

    def cpu_seconds(self):
        ticks = 0
        for pid in self.processes():
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


def write_questions(path):
    lines = []
    for number, name in enumerate(NAMES * 10):
        lines += [f"{name} A", f"{name} AAAA"] * 4 + [f"{name} {'A' if number % 2 else 'AAAA'}"]
        lines += [f"no{number}.{name} A"]
    path.write_text("\n".join(lines) + "\n")


def ask(server, mode, questions, options):
    command = ["taskset", "-c", options.clients, "dnsperf", "-s", "127.0.0.1", "-p", str(server.port)]
    command += ["-d", str(questions), "-l", str(options.seconds), "-c", str(options.sockets)]
    command += ["-T", str(options.threads), "-q", str(options.outstanding), "-t", "1"]
    command += MODES[mode]
    before = server.cpu_seconds()
    out = subprocess.run(command, capture_output=True, text=True).stdout
    used = server.cpu_seconds() - before
    done = re.search(r"Queries completed:\s+(\d+)", out)
    if not done:
        raise SystemExit(f"dnsperf failed: {out}")
    lost = int(re.search(r"Queries lost:\s+(\d+)", out)[1])
    codes = dict(re.findall(r"(NOERROR|NXDOMAIN|SERVFAIL|REFUSED|FORMERR)\s+(\d+)", out))
    if set(codes) - {"NOERROR", "NXDOMAIN"}:
        raise SystemExit(f"{server.name} answers otherwise: {codes}")
    answers = int(done[1])
    return {
        "per_core": answers / max(used, 0.01),
        "qps": float(re.search(r"Queries per second:\s+([\d.]+)", out)[1]),
        "busy": used / options.seconds,
        "lost": lost / max(answers + lost, 1),
    }


def latency(server, questions, options):
    """Median and 99th percentile in microseconds at a rate that is far from the most."""
    command = ["taskset", "-c", options.clients, "dnsperf", "-s", "127.0.0.1", "-p", str(server.port)]
    command += ["-d", str(questions), "-l", str(options.seconds), "-Q", str(options.rate), "-v"]
    out = subprocess.run(command, capture_output=True, text=True).stdout
    took = sorted(float(each) for each in re.findall(r"^> \S+ \S+ \S+ ([\d.]+)$", out, re.M))
    at = lambda share: round(took[int(len(took) * share)] * 1e6) if took else None
    return {"server": server.name, "rate": options.rate, "p50_us": at(0.5), "p99_us": at(0.99)}


def measure(servers, questions, options):
    results = {}
    for number in range(options.rounds + 1):
        for mode in MODES:
            # Another one begins each time, so that no place in the row is anybody's.
            first = number % len(servers)
            for server in servers[first:] + servers[:first]:
                got = ask(server, mode, questions, options)
                if number > 0:  # the first round warms up
                    results.setdefault((mode, server.name), []).append(got)
    return results


def summary(results):
    rows = []
    for (mode, name), runs in results.items():
        ours = results[(mode, "mainstay")]
        median = lambda key: statistics.median(run[key] for run in runs)
        ratio = statistics.median(o["per_core"] / r["per_core"] for o, r in zip(ours, runs))
        rows.append(
            {
                "mode": mode,
                "server": name,
                "per_core": round(median("per_core")),
                "qps": round(median("qps")),
                "busy": round(median("busy"), 2),
                "lost": round(median("lost"), 5),
                "mainstay_to_it": round(ratio, 2),
            }
        )
    return rows


def main():
    cpus = sorted(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--threads", type=int, default=max(1, min(6, len(cpus) - 1)))
    parser.add_argument("--sockets", type=int, default=12)
    parser.add_argument("--outstanding", type=int, default=600)
    parser.add_argument("--rate", type=int, default=10000, help="questions a second for latencies")
    parser.add_argument("--rivals", default="gdnsd,gdnsd static,knot")
    options = parser.parse_args()
    options.clients = ",".join(map(str, cpus[1:] or cpus))
    programs = {"knot": "knotd"}
    there = lambda name: shutil.which(programs.get(name.split()[0], name.split()[0]))
    rivals = [name for name in options.rivals.split(",") if there(name)]
    if not rivals or not shutil.which("dnsperf"):
        raise SystemExit("install the Debian packages dnsperf and gdnsd (or knot, nsd)")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        write_questions(folder / "questions")
        servers = []
        try:
            for name in ["mainstay", *rivals]:
                servers.append(Server(name, folder, cpus[0]))
            rows = summary(measure(servers, folder / "questions", options))
            waits = [latency(server, folder / "questions", options) for server in servers]
        finally:
            for server in servers:
                server.stop()
    if options.json:
        print(json.dumps({"rows": rows, "latencies": waits}))
        return
    print(f"{'':8}{'server':14}{'answers/s/core':>15}{'answers/s':>11}{'busy':>6}{'lost':>9}"
          f"{'Mainstay to it, per core':>26}")
    for r in rows:
        print(f"{r['mode']:8}{r['server']:14}{r['per_core']:>15}{r['qps']:>11}{r['busy']:>6}"
              f"{r['lost']:>9}{r['mainstay_to_it']:>26}")
    for w in waits:
        print(f"{w['server']:14} at {w['rate']} questions/s: p50 {w['p50_us']} us, p99 {w['p99_us']} us")


if __name__ == "__main__":
    main()
