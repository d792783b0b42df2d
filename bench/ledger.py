#!/usr/bin/env python3
"""Does the ledger bill every answer once, while its gateway and its PostgreSQL are killed?

Needs a build and Debian's package postgresql:

    cargo build --release && python3 bench/ledger.py --requests 1000000 --json

Clients ask one gateway before a fault server that answers at once; every few seconds the gateway, or
the PostgreSQL that its ledger flows to, is killed without warning and started again. Each client
writes down the id and the usage of every answer that came whole. At the end every such id must have
one billed row, sums must be equal, and both databases must say the same. Rows that nobody counted
are of answers that were whole when the gateway died on their way; there can be one for each client
and kill. Exit code 1 if anything else is found.
"""

import argparse
import asyncio
import glob
import json
import os
import pathlib
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
NOBODY = 65534


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def waits(port, limit=30):
    until = time.monotonic() + limit
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    sys.exit(f"nobody listens on {port}")


class Postgres:
    def __init__(self, directory):
        self.data = os.path.join(directory, "postgres")
        self.port = free_port()
        self.programs = sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1]
        self.account = {"user": NOBODY, "group": NOBODY} if os.geteuid() == 0 else {}
        os.mkdir(self.data)
        if self.account:
            os.chmod(directory, 0o755)
            os.chown(self.data, NOBODY, NOBODY)
        self.run("initdb", "-U", "mainstay", "-A", "trust", "-E", "UTF8", "--no-sync").wait()
        self.start()

    def run(self, program, *arguments):
        return subprocess.Popen(
            [f"{self.programs}/{program}", "-D", self.data, *arguments],
            cwd=self.data, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, env={"LC_ALL": "C"}, **self.account)

    def start(self):
        while True:
            self.process = self.run(
                "postgres", "-p", str(self.port), "-c", "listen_addresses=127.0.0.1",
                "-c", "unix_socket_directories=", "-c", "fsync=off",
                "-c", "dynamic_shared_memory_type=mmap")
            time.sleep(0.3)
            # Parts of one that was killed may hold its memory for a moment.
            if self.process.poll() is None:
                return waits(self.port)

    def kill(self):
        self.process.kill()
        self.process.wait()


class Gateway:
    def __init__(self, program, directory, upstream, ledger):
        self.program, self.directory = program, directory
        self.api, self.admin = free_port(), free_port()
        self.config = os.path.join(directory, "mainstay.toml")
        pathlib.Path(self.config).write_text(f"""
ledger = "{ledger}"
[listen]
api = "127.0.0.1:{self.api}"
admin = "127.0.0.1:{self.admin}"
[log]
level = "warn"
[[site]]
name = "up"
provider = "openai"
base_url = "{upstream}/s/p/v1"
key = "sk-up"
price = [{{ input = 1, output = 2 }}]
[[model]]
name = "chat"
served_by = ["up/long-2-0ms"]
""")
        self.log = open(os.path.join(directory, "gateway.log"), "ab")
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [self.program, "serve", "--config", self.config], cwd=self.directory,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.log)
        waits(self.api)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def metric(self, name):
        try:
            with socket.create_connection(("127.0.0.1", self.admin), 2) as admin:
                admin.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
                text = b""
                while part := admin.recv(65536):
                    text += part
        except OSError:
            return None
        for line in text.decode().splitlines():
            if line.startswith(name + " "):
                return float(line.split()[1])
        return None


class Count:
    """What the clients counted."""

    def __init__(self):
        self.whole = {}
        self.prompt = self.output = self.cut = self.refused = self.twice = 0


async def client(port, count, most, stop):
    body = json.dumps({"model": "chat", "messages": [{"role": "user", "content": "hello"}]})
    request = (f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
               f"content-type: application/json\r\n\r\n{body}").encode()
    while len(count.whole) < most and not stop.is_set():
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
            continue
        try:
            while len(count.whole) < most and not stop.is_set():
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
                fields = {name.lower(): value for name, value in fields.items()}
                text = await reader.readexactly(int(fields[b"content-length"]))
                if not head.startswith(b"HTTP/1.1 200"):
                    count.refused += 1
                    continue
                usage = json.loads(text)["usage"]
                name = int(fields[b"x-mainstay-request-id"][4:], 16)
                count.twice += name in count.whole
                count.whole[name] = None
                count.prompt += usage["prompt_tokens"]
                count.output += usage["completion_tokens"]
        except (OSError, asyncio.IncompleteReadError):
            count.cut += 1
        finally:
            writer.close()


async def load(arguments, gateway, postgres, count):
    stop = asyncio.Event()
    clients = [asyncio.create_task(client(gateway.api, count, arguments.requests, stop))
               for _ in range(arguments.clients)]
    all_of_them = asyncio.gather(*clients)
    kills = {"gateway": 0, "postgres": 0}
    loop = asyncio.get_running_loop()
    turn = 0
    while True:
        done, _ = await asyncio.wait([all_of_them], timeout=arguments.every)
        if done:
            break
        turn += 1
        if turn % 2:
            kills["gateway"] += 1
            await loop.run_in_executor(None, gateway.kill)
            await loop.run_in_executor(None, gateway.start)
        else:
            kills["postgres"] += 1
            await loop.run_in_executor(None, postgres.kill)
            await asyncio.sleep(arguments.every / 3)
            await loop.run_in_executor(None, postgres.start)
    return kills


def usage(program, ledger):
    run = subprocess.run([program, "usage", "--ledger", ledger, "--by", "model", "--json",
                          "--from", "2020-01-01"], capture_output=True, text=True)
    if run.returncode:
        sys.exit(run.stderr)
    rows = json.loads(run.stdout)["rows"]
    return rows[0] if rows else {}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--every", type=float, default=4.0, help="seconds between kills")
    parser.add_argument("--program", default=str(ROOT / "target/release/mainstay"))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mainstay-ledger-") as directory:
        faults = subprocess.Popen(
            [arguments.program, "faults", "serve", "--listen", "127.0.0.1:0", "--json"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        postgres = gateway = None
        try:
            upstream = read_json(faults.stdout)["url"]
            postgres = Postgres(directory)
            ledger = f"postgres://mainstay@127.0.0.1:{postgres.port}/postgres"
            gateway = Gateway(arguments.program, directory, upstream, ledger)
            found = measure(arguments, (gateway, postgres), ledger, directory)
        finally:
            for process in [faults, gateway and gateway.process, postgres and postgres.process]:
                if process:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
    print(json.dumps(found, indent=2) if arguments.json else
          "\n".join(f"{key:24} {value}" for key, value in found.items()))
    sys.exit(0 if found["good"] else 1)


def read_json(stream):
    text = ""
    for line in stream:
        text += line
        try:
            return json.loads(text)
        except ValueError:
            continue
    sys.exit("the fault server says nothing")


def measure(arguments, servers, ledger, directory):
    gateway, postgres = servers
    count = Count()
    began = time.monotonic()
    kills = asyncio.run(load(arguments, gateway, postgres, count))
    took = time.monotonic() - began
    until = time.monotonic() + 120
    own = os.path.join(directory, "mainstay-ledger.db")
    while time.monotonic() < until:
        waiting = [gateway.metric("mainstay_ledger_queued"),
                   gateway.metric("mainstay_ledger_unsynced_rows")]
        if waiting == [0, 0] and usage(arguments.program, own) == usage(arguments.program, ledger):
            break
        time.sleep(0.2)
    database = sqlite3.connect(f"file:{own}?mode=ro", uri=True)
    rows = database.execute(
        "SELECT id, prompt, output FROM mainstay_request WHERE outcome = 'done'").fetchall()
    lost = database.execute(
        "SELECT COUNT(*) FROM mainstay_request WHERE outcome <> 'done'").fetchone()[0]
    mask = (1 << 64) - 1
    billed = {row[0] & mask: row for row in rows}
    missing = [name for name in count.whole if name not in billed]
    uncounted = [row for name, row in billed.items() if name not in count.whole]
    prompt = sum(row[1] for row in rows) - sum(row[1] for row in uncounted)
    output = sum(row[2] for row in rows) - sum(row[2] for row in uncounted)
    here, there = usage(arguments.program, own), usage(arguments.program, ledger)
    good = (not missing and len(billed) == len(rows) and not count.twice and here == there
            and (prompt, output) == (count.prompt, count.output)
            and len(uncounted) <= arguments.clients * kills["gateway"])
    return {
        "good": good,
        "whole_answers": len(count.whole),
        "billed_rows": len(rows),
        "without_a_row": len(missing),
        "rows_nobody_counted": len(uncounted),
        "requests_lost_or_left": lost,
        "cut": count.cut,
        "refused": count.refused,
        "tokens_counted": [count.prompt, count.output],
        "tokens_billed": [prompt, output],
        "postgres_says_the_same": here == there,
        "kills": kills,
        "seconds": round(took, 1),
        "requests_a_second": round(len(count.whole) / took),
    }


if __name__ == "__main__":
    main()
