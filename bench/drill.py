#!/usr/bin/env python3
"""Does `mainstay check` forecast what a drill then measures?

Lays out the demo's fleet (three sites, two gateways) as processes on this machine and, for each load,
breaks site A for all that goes there. Prints what is forecast for the loss of that site at the load that
the gateways saw beside what they counted, by tier, with the difference in points.

    cargo build --release && bench/drill.py
    bench/drill.py --load 0.6 --for 60s           another load, shorter

What limits must be what the sites are configured to carry, and not this machine. So they are held to it
(`hold_to_rate`), and a request may write a thousand tokens, which is what it counts for, but asks to end
before its first space, which is what it costs the machine. Clients do not ask again: gateways would count each try as a request. Exit code 1 if a
difference is above `--within`.
"""

import argparse
import json
import os
import pathlib
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

SITES, GATEWAYS = ["A", "B", "C"], ["gw-1", "gw-2"]
# Tiers and their shares of all requests, as on the standard bench.
TIERS = {"enterprise": 10, "pro": 30, "free": 60}


def ports(count):
    """Free ports below those that the system gives to connections, so that none is lost again."""
    found = []
    for port in random.sample(range(10_000, 16_000), 6_000):
        if len(found) == count:
            return found
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        found.append(port)
    sys.exit("no free ports between 10000 and 16000 on 127.0.0.1")


class Fleet:
    """The processes, from their files to their end."""

    def __init__(self, options, directory):
        self.options, self.directory, self.running = options, directory, []
        names = SITES + GATEWAYS
        free = iter(ports(3 * len(names)))
        self.ports = {name: [next(free) for _ in range(3)] for name in names}
        for name in names:
            command = [options.mainstay, "node", "init", "--name", host(name), "--json"]
            command += ["--dir", str(directory / name)]
            if name != names[0]:
                command += ["--ca", str(directory / names[0])]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        self.keys, lines = {}, ""
        for tier in TIERS:
            command = [options.mainstay, "keys", "create", "--name", tier, "--tier", tier]
            made = subprocess.run(command, check=True, capture_output=True, text=True)
            self.keys[tier] = re.search(r"sk-\S+|ms-\S+", made.stderr).group(0)
            lines += made.stdout + "\n"
        for name in names:
            self.file(name).write_text(self.config(name, lines))

    def file(self, name):
        return self.directory / name / "mainstay.toml"

    def config(self, name, keys):
        api, admin, link = self.ports[name]
        own = self.directory / name
        roles = '"gateway"' if name in GATEWAYS else '"site", "worker"'
        text = f"""[listen]
api = "127.0.0.1:{api}"
admin = "127.0.0.1:{admin}"
link = "127.0.0.1:{link}"

[node]
name = "{host(name)}"
ca_file = "{own}/ca.pem"
cert_file = "{own}/node.pem"
key_file = "{own}/node.key"
data_dir = "{own}/data"
roles = [{roles}]
"""
        if name in SITES:
            text += f'site = "{name}"\n'
        for gateway in GATEWAYS:
            text += f'\n[[gateway]]\nname = "{gateway}"\n'
            text += f'link = "https://127.0.0.1:{self.ports[gateway][2]}"\n'
        for site in SITES:
            text += f'\n[[site]]\nname = "{site}"\nnode_name = "{host(site)}"\n'
            text += f'node = "https://127.0.0.1:{self.ports[site][2]}"\n'
            text += 'models = [{ name = "builtin" }]\n'
            if site == name:
                text += 'engine = { model = "builtin" }\n'
                text += f"capacity = {self.options.streams}\n"
                text += f"tokens_per_second = {self.options.tokens_per_second}\n"
                text += "hold_to_rate = true\n"
        served = ", ".join(f'"{site}/builtin"' for site in SITES)
        text += f'\n[[model]]\nname = "chat"\nserved_by = [{served}]\n\n'
        return text + (keys if name in GATEWAYS else "")

    def start(self):
        processors = sorted(os.sched_getaffinity(0))
        for at, name in enumerate(SITES + GATEWAYS):
            log = open(self.directory / f"{name}.log", "w")
            command = [self.options.mainstay, "serve", "--config", str(self.file(name))]
            # One processor each: engines that share all of them wait for each other's threads.
            own = {processors[at % len(processors)]}
            pinned = lambda own=own: os.sched_setaffinity(0, own)
            self.running.append(
                subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=pinned)
            )
        deadline = time.monotonic() + 60
        while not all(self.is_ready(url) for url in self.admins()):
            if time.monotonic() > deadline:
                sys.exit(f"the fleet does not start; see {self.directory}")
            time.sleep(0.2)

    def is_ready(self, url):
        """Whether this gateway was told by every site what it carries."""
        try:
            with urllib.request.urlopen(f"{url}/view", timeout=10) as reply:
                targets = json.load(reply)["targets"]
        except OSError:
            return False
        return sum(target["capacity"] > 0 for target in targets) == len(SITES)

    def admins(self):
        return [f"http://127.0.0.1:{self.ports[name][1]}" for name in GATEWAYS]

    def load(self, rate):
        command = [self.options.mainstay, "load", "--for", "1h", "--rate", f"{rate:.3f}"]
        command += ["--retries", "0", "--stop", " ", "--prompt-tokens", "5"]
        command += ["--max-tokens", str(self.options.max_tokens)]
        for name in GATEWAYS:
            command += ["--url", f"http://127.0.0.1:{self.ports[name][0]}"]
        for tier, share in TIERS.items():
            command += ["--tier", f"{tier}={self.keys[tier]}@{share}"]
        quiet = subprocess.DEVNULL
        self.running.append(subprocess.Popen(command, stdout=quiet, stderr=quiet))

    def drill(self):
        options = self.options
        command = [options.mainstay, "drill", "--json", "--site", "A", "--percent", "100"]
        command += ["--fault", options.fault, "--for", options.lasts, "--before", options.before]
        command += ["--config", str(self.file("gw-1"))]
        # It is to last: how little is left of the lower tiers is what is asked here.
        for tier in TIERS:
            command += ["--floor", f"{tier}=0"]
        for url in self.admins():
            command += ["--admin", url]
        if options.report:
            command += ["--report", options.report]
        return json.loads(subprocess.run(command, stdout=subprocess.PIPE).stdout)

    def end(self):
        for process in self.running:
            process.kill()
        for process in self.running:
            process.wait()


def host(name):
    return f"site-{name.lower()}" if name in SITES else name


def run(options, load):
    """The drill's report under a load that is this share of what the fleet carries."""
    rate = load * len(SITES) * options.tokens_per_second / options.max_tokens
    with tempfile.TemporaryDirectory() as directory:
        fleet = Fleet(options, pathlib.Path(directory))
        try:
            fleet.start()
            fleet.load(rate)
            time.sleep(options.settle)
            return fleet.drill()
        finally:
            fleet.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    here = pathlib.Path(__file__).resolve().parent.parent
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", here / "target"))
    parser.add_argument("--mainstay", default=str(target / "release" / "mainstay"))
    parser.add_argument("--load", type=float, action="append", help="share of the fleet's capacity")
    parser.add_argument("--fault", default="down")
    parser.add_argument("--for", dest="lasts", default="2m")
    parser.add_argument("--before", default="10s")
    parser.add_argument("--settle", type=float, default=10, help="seconds before the drill")
    parser.add_argument("--tokens-per-second", type=int, default=12000, help="of a site")
    parser.add_argument("--streams", type=int, default=64, help="open answers of a site")
    parser.add_argument("--max-tokens", type=int, default=1000, help="of a request")
    parser.add_argument("--within", type=float, default=5.0, help="points")
    parser.add_argument("--json", help="keep all reports in this file, for programs")
    parser.add_argument("--report", help="keep the last one's report in this file, for people")
    options = parser.parse_args()
    options.load = options.load or [0.5, 0.75, 1.1]
    reports, apart = [], 0.0
    print("| load asked | load seen | tier | requests | forecast | measured | difference | failed |")
    print("|---|---|---|---|---|---|---|---|")
    for load in options.load:
        report = run(options, load)
        reports.append(report)
        level = report["forecast"].get("level", float("nan"))
        for name, tier in report["tiers"].items():
            during, forecast = tier["during"], tier["forecast"]
            if not during["asked"] or forecast is None:
                continue
            difference = tier["difference"]
            apart = max(apart, abs(difference))
            print(
                f"| {load:.0%} | {level:.0%} | {name} | {during['asked']} | {forecast:.1%} | "
                f"{during['good_ratio']:.1%} | {difference:+.1f} | {during['failed']} |"
            )
        if not report["held"]:
            print(f"\n{report['summary']}\n")
        sys.stdout.flush()
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(reports, indent=1))
    print(f"\nat most {apart:.1f} points apart")
    sys.exit(0 if apart <= options.within else 1)


if __name__ == "__main__":
    main()
