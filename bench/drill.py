#!/usr/bin/env python3
"""Does `mainstay check` forecast what a drill then measures?

Starts the demo fleet (three sites, two gateways) for each load, breaks site A for all that goes there,
and prints what was forecast for the loss of that site at the load that the gateways saw beside what
they counted, by tier, with the difference in points.

    cargo build --release
    bench/drill.py                        loads of about 50, 75 and 110 % of the fleet
    bench/drill.py --load 0.6 --for 60s   another one, shorter

The limit must be what the sites are configured to carry and not this machine: with few tokens a second
(`--tokens-per-second`) two cores are enough. Exit code 1 if a difference is above `--within`.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import urllib.request

# What a request costs in cost units: thousandths for a token of the prompt, ten for one of the answer.
PROMPT, OUTPUT = 0.001, 0.010
SITES, GATEWAYS = 3, 2


def admin(directory, node):
    text = (directory / node / "mainstay.toml").read_text()
    return "http://" + re.search(r'^admin = "(.*)"', text, re.M).group(1)


def ask(url):
    with urllib.request.urlopen(url, timeout=10) as reply:
        return json.load(reply)


def capacity(admins):
    """Cost units a second of all sites, once both gateways know them; else nothing."""
    try:
        targets = [ask(f"{url}/view")["targets"] for url in admins]
    except OSError:
        return None
    if any(len([t for t in all if t["capacity"] > 0]) < SITES for all in targets):
        return None
    return sum(t["capacity"] for t in targets[0])


def demo(options, directory, rate):
    command = [options.mainstay, "demo", "--json", "--dir", str(directory), "--rate", f"{rate:.3f}"]
    command += ["--for", "30m", "--prompt-tokens", str(options.prompt_tokens)]
    command += ["--max-tokens", str(options.max_tokens)]
    command += ["--tokens-per-second", str(options.tokens_per_second)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def run(options, load):
    """The drill's report under a load that is this share of what the fleet carries."""
    carries = SITES * options.tokens_per_second * OUTPUT
    cost = options.prompt_tokens * PROMPT + options.max_tokens * OUTPUT
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        fleet = demo(options, directory, load * carries / cost)
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    admins = [admin(directory, f"gw-{at + 1}") for at in range(GATEWAYS)]
                    if capacity(admins):
                        break
                except (OSError, AttributeError):
                    pass
                if time.monotonic() > deadline or fleet.poll() is not None:
                    sys.exit("the fleet does not start")
                time.sleep(0.2)
            time.sleep(options.settle)
            command = [options.mainstay, "drill", "--json", "--site", "A", "--percent", "100"]
            command += ["--fault", options.fault, "--for", options.lasts, "--before", options.before]
            command += ["--config", str(directory / "gw-1" / "mainstay.toml")]
            # It is to last: how little is left of the lower tiers is what is asked here.
            command += ["--floor", "enterprise=0", "--floor", "pro=0", "--floor", "free=0"]
            for url in admins:
                command += ["--admin", url]
            told = subprocess.run(command, stdout=subprocess.PIPE)
            return json.loads(told.stdout)
        finally:
            fleet.terminate()
            fleet.wait()


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
    parser.add_argument("--tokens-per-second", type=int, default=200)
    parser.add_argument("--prompt-tokens", type=int, default=40)
    parser.add_argument("--max-tokens", type=int, default=16)
    parser.add_argument("--within", type=float, default=5.0, help="points")
    parser.add_argument("--json", help="keep the reports in this file")
    options = parser.parse_args()
    reports, apart = [], 0.0
    print("| load asked | load seen | tier | requests | forecast | measured | difference | failed |")
    print("|---|---|---|---|---|---|---|---|")
    for load in options.load or [0.5, 0.75, 1.1]:
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
