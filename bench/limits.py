#!/usr/bin/env python3
"""How exactly do many gateways keep one key's limit, joined and cut off from each other?

    cargo build --release && python3 bench/limits.py --json

Sixteen gateways before a fault server, one key that is limited, clients that offer ten times that
much at all gateways alike, in an open loop. After a warm-up a minute is counted; then a quarter of
the gateways is cut off from the rest, and the next minute counted; then all are joined again. With
`--tokens` the limit is one of tokens, and the requests are streams of three lengths that nobody
says beforehand. Links between the two groups go through relays here, which are closed to cut them.
Exit code 1 if more was let in than the stated bound.
"""

import argparse
import asyncio
import hashlib
import json
import pathlib
import random
import socket
import subprocess
import sys
import tempfile
import time

from ledger import read_json

ROOT = pathlib.Path(__file__).resolve().parent.parent
SECRET = "sk-limited"
# How long a slice is leased, and how long a home that starts grants nothing.
LEASE, SILENT = 10, 11
MODELS = ["long-20-5ms", "long-60-5ms", "long-200-5ms"]


def free_ports(count):
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


class Relay:
    """Carries one direction of dialing between two gateways, until it is cut."""

    def __init__(self, port, to):
        self.port, self.to, self.server, self.open = port, to, None, set()

    async def join(self):
        self.server = await asyncio.start_server(self.carry, "127.0.0.1", self.port)

    async def cut(self):
        self.server.close()
        for writer in list(self.open):
            writer.transport.abort()

    async def carry(self, reader, writer):
        try:
            there = await asyncio.open_connection("127.0.0.1", self.to)
        except OSError:
            writer.close()
            return
        except asyncio.CancelledError:
            return
        ends = {writer, there[1]}
        self.open |= ends
        try:
            await asyncio.gather(self.pump(reader, there[1]), self.pump(there[0], writer))
        except asyncio.CancelledError:
            pass  # All of it is over.
        self.open -= ends

    @staticmethod
    async def pump(reader, writer):
        try:
            while part := await reader.read(65536):
                writer.write(part)
                await writer.drain()
        except OSError:
            pass
        writer.close()


class Fleet:
    def __init__(self, arguments, directory, upstream):
        self.program, self.directory = arguments.program, directory
        count = arguments.gateways
        self.names = [f"g{at}" for at in range(count)]
        self.away = set(range(count - max(1, count // 4), count))
        self.apis, self.links = free_ports(2 * count)[:count], free_ports(count)
        self.relays = {}
        pairs = [(a, b) for a in range(count) for b in range(count)
                 if (a in self.away) != (b in self.away)]
        for (a, b), port in zip(pairs, free_ports(len(pairs))):
            self.relays[a, b] = Relay(port, self.links[b])
        unit = "tokens" if arguments.tokens else "requests"
        limit = f"{unit}_per_minute = {arguments.limit * 60}"
        for at in range(count):
            self.write(at, upstream, limit)
        self.processes = []

    def write(self, at, upstream, limit):
        directory, name = self.directory, self.names[at]
        others = ["--ca", f"{directory}/{self.names[0]}"] if at else []
        made = subprocess.run(
            [self.program, "node", "init", "--name", name, "--dir", f"{directory}/{name}", *others],
            capture_output=True, text=True)
        if made.returncode:
            sys.exit(made.stderr)
        gateways = "".join(
            f'[[gateway]]\nname = "{self.names[to]}"\nlink = "https://127.0.0.1:'
            f'{self.relays[at, to].port if (at, to) in self.relays else self.links[to]}"\n'
            for to in range(len(self.names)))
        models = "".join(f'[[model]]\nname = "{model}"\nserved_by = ["s/{model}"]\n'
                         for model in ["ok", *MODELS])
        listed = ", ".join(f'{{ name = "{model}" }}' for model in ["ok", *MODELS])
        pathlib.Path(directory, f"{name}.toml").write_text(f"""
ledger = "off"
[listen]
api = "127.0.0.1:{self.apis[at]}"
admin = "127.0.0.1:0"
link = "127.0.0.1:{self.links[at]}"
[log]
level = "warn"
[node]
name = "{name}"
roles = ["gateway"]
ca_file = "{directory}/{name}/ca.pem"
cert_file = "{directory}/{name}/node.pem"
key_file = "{directory}/{name}/node.key"
data_dir = "{directory}/{name}/kept"
{gateways}
[[site]]
name = "s"
provider = "openai"
key = "sk-upstream"
base_url = "{upstream}/s/s/v1"
models = [{listed}]
{models}
[[key]]
name = "limited"
hash = "{hashlib.sha256(SECRET.encode()).hexdigest()}"
{limit}
""")

    async def start(self):
        for relay in self.relays.values():
            await relay.join()
        for name in self.names:
            with open(f"{self.directory}/{name}.log", "ab") as log:
                self.processes.append(subprocess.Popen(
                    [self.program, "serve", "--config", f"{self.directory}/{name}.toml"],
                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log))
        for port in self.apis:
            for _ in range(3000):
                try:
                    (await asyncio.open_connection("127.0.0.1", port))[1].close()
                    break
                except OSError:
                    await asyncio.sleep(0.02)
            else:
                sys.exit(f"nobody listens on {port}")


class Count:
    def __init__(self):
        self.offered = self.admitted = self.refused = self.other = self.tokens = 0
        self.statuses = {}

    def note(self, what):
        self.other += 1
        self.statuses[what] = self.statuses.get(what, 0) + 1

    def told(self):
        return {key: value for key, value in vars(self).items() if value or key == "admitted"}


class Clients:
    """Ask in an open loop, at all gateways alike, over connections that are kept."""

    def __init__(self, fleet, arguments):
        self.fleet, self.tokens, self.rate = fleet, arguments.tokens, arguments.offered
        self.idle = [[] for _ in fleet.apis]
        self.rng = random.Random(1)
        self.open = set()

    def request(self):
        model = self.rng.choice(MODELS) if self.tokens else "ok"
        ask = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
        if self.tokens:
            ask |= {"stream": True, "stream_options": {"include_usage": True}}
        body = json.dumps(ask)
        return (f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {SECRET}\r\n"
                f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}").encode()

    async def ask(self, at, count):
        try:
            reader, writer = (self.idle[at].pop() if self.idle[at] else
                              await asyncio.open_connection("127.0.0.1", self.fleet.apis[at]))
            writer.write(self.request())
            head = await reader.readuntil(b"\r\n\r\n")
            admitted = head.startswith(b"HTTP/1.1 200")
            if admitted:
                count.admitted += 1
            elif head.startswith(b"HTTP/1.1 429"):
                count.refused += 1
            else:
                count.note(head.split(b" ", 2)[1].decode())
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
            if b"content-length" in fields:
                await reader.readexactly(int(fields[b"content-length"]))
            else:
                # Others count while this one waits.
                tokens = await self.stream(reader)
                count.tokens += tokens
            self.idle[at].append((reader, writer))
        except (OSError, asyncio.IncompleteReadError) as error:
            count.note(type(error).__name__)

    @staticmethod
    async def stream(reader):
        tokens = 0
        while (size := int(await reader.readline(), 16)) or await reader.readline() != b"\r\n":
            part = await reader.readexactly(size + 2)
            for line in part.splitlines():
                if line.startswith(b'data: {') and b'"usage":{' in line:
                    tokens = json.loads(line[6:])["usage"]["total_tokens"]
        return tokens

    async def run(self, seconds):
        count = [Count() for _ in self.fleet.apis]
        began, sent = time.monotonic(), 0
        while (passed := time.monotonic() - began) < seconds:
            while sent < passed * self.rate:
                at = sent % len(self.fleet.apis)
                sent += 1
                count[at].offered += 1
                task = asyncio.create_task(self.ask(at, count[at]))
                self.open.add(task)
                task.add_done_callback(self.open.discard)
            await asyncio.sleep(0.005)
        if self.open:
            await asyncio.wait(set(self.open), timeout=30)
        return count


def add(counts):
    total = Count()
    for count in counts:
        for what, times in count.statuses.items():
            total.statuses[what] = total.statuses.get(what, 0) + times
        for key in ["offered", "admitted", "refused", "other", "tokens"]:
            setattr(total, key, getattr(total, key) + getattr(count, key))
    return total


async def measure(arguments, fleet):
    await fleet.start()
    clients = Clients(fleet, arguments)
    await clients.run(SILENT + LEASE)
    found, good = {}, True
    share = arguments.limit * arguments.seconds
    cut_off = 0.1 * arguments.limit * arguments.seconds
    for name in ["joined", "four_cut_off", "joined_again"]:
        if name == "four_cut_off":
            await asyncio.gather(*(relay.cut() for relay in fleet.relays.values()))
        elif name == "joined_again":
            await asyncio.gather(*(relay.join() for relay in fleet.relays.values()))
        counts = await clients.run(arguments.seconds)
        total = add(counts)
        bound = share + LEASE * arguments.limit + (cut_off if name != "joined" else 0)
        used = total.tokens if arguments.tokens else total.admitted
        if arguments.tokens:
            # What runs is let in by what is predicted, and counted by what it was.
            bound += 1000 * len(fleet.apis)
        good &= used <= bound and total.other == 0
        found[name] = {**total.told(), "limit": share, "bound": bound,
                       "of_those_cut_off": add(counts[at] for at in fleet.away).told()}
    return {"good": good, **found}


async def all_of_it(arguments, directory):
    faults = subprocess.Popen(
        [arguments.program, "faults", "serve", "--listen", "127.0.0.1:0", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    fleet = None
    try:
        fleet = Fleet(arguments, directory, read_json(faults.stdout)["url"])
        return await measure(arguments, fleet)
    finally:
        for process in [faults, *(fleet.processes if fleet else [])]:
            process.kill()
            process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gateways", type=int, default=16)
    parser.add_argument("--tokens", action="store_true", help="a limit of tokens, and streams")
    parser.add_argument("--limit", type=int, help="a second; 100 requests or 5,000 tokens")
    parser.add_argument("--offered", type=int, help="requests a second; 1,000, or 100 streams")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--program", default=str(ROOT / "target/release/mainstay"))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    arguments.limit = arguments.limit or (5000 if arguments.tokens else 100)
    arguments.offered = arguments.offered or (100 if arguments.tokens else 1000)
    with tempfile.TemporaryDirectory(prefix="mainstay-limits-") as directory:
        found = asyncio.run(all_of_it(arguments, directory))
    print(json.dumps(found, indent=2) if arguments.json else
          "\n".join(f"{key:16} {value}" for key, value in found.items()))
    sys.exit(0 if found["good"] else 1)


if __name__ == "__main__":
    main()
