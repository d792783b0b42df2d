#!/usr/bin/env python3
"""Do answers survive the workers that write them?

Starts real llama.cpp servers (`tests/workers`), a site of ours in front of them, and clients that ask for
answers of many lengths; kills one server after another with SIGKILL, in the middle of what it writes, and
starts it again. Prints what became of the answers.

    pip install -r tests/workers/requirements.txt
    cargo build --release && bench/workers.py             five minutes, a kill every 20 seconds
    bench/workers.py --for 50 --every 8 --check           shorter; exit code 1 if an answer was harmed

Most answers are decoded greedily, so each has one right text, which a server that nobody disturbs is asked
for beforehand. An answer counts as failed if it is not whole or, greedy, not that text: a token that came
twice or not at all is one. The servers are slowed to `--share` of a processor by stopping and waking them,
since this model would else be through before anybody could kill anything. There are fewer clients than the servers that are left can answer at once,
for what a site does when it is full is measured elsewhere; a request that it refuses all the same, with a time
to come back, counts as shed.
"""

import argparse
import http.client
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PROGRAM = os.environ.get("MAINSTAY_PROGRAM", str(TARGET / "release" / "mainstay"))
MODEL, SLOTS = "letters", 8
# One stop and one waking of all servers takes so long.
BEAT = 0.05
SUBJECTS = ["the sea", "a house of paper", "rain in the north", "numbers", "a very old road", "winter"]
LENGTHS = [60, 150, 300, 450, 600]


def ports(count):
    """Free ports, held together so that no two are alike."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return found


def until(what, seconds, check):
    """Waits for what a process of ours promised."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if check():
                return
        except OSError:
            pass
        time.sleep(0.02)
    raise RuntimeError(f"{what} did not come within {seconds} s")


def get(port, path):
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    link.request("GET", path)
    reply = link.getresponse()
    body = reply.read()
    link.close()
    return reply.status, body


class Servers:
    """llama.cpp's servers, slowed, killed and started again."""

    def __init__(self, options, directory):
        self.model, self.share = directory / "model.gguf", options.share
        self.context = options.context
        self.log = open(directory / "workers.log", "wb")
        subprocess.run([sys.executable, ROOT / "tests/workers/model.py", self.model], check=True)
        self.ports = ports(options.workers)
        self.lock, self.running, self.hung = threading.Lock(), {}, set()
        for port in self.ports:
            self.start(port)
        for port in self.ports:
            self.ready(port)
        self.over = threading.Event()
        self.pacer = threading.Thread(target=self.pace, daemon=True)

    def start(self, port):
        command = [sys.executable, ROOT / "tests/workers/server.py", self.model, port, SLOTS]
        command = [*map(str, command), str(self.context)]
        process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        with self.lock:
            self.running[port] = process

    def ready(self, port):
        until("a server", 60, lambda: get(port, "/health")[0] == 200)

    def kill(self, port):
        with self.lock:
            process = self.running.pop(port)
            self.hung.discard(port)
        process.kill()
        process.wait()

    def hang(self, port):
        """It stands still with its connections open, as a machine does whose network is gone."""
        with self.lock:
            self.hung.add(port)
            self.running[port].send_signal(signal.SIGSTOP)

    def signal(self, number):
        with self.lock:
            for port, process in self.running.items():
                if process.poll() is None and port not in self.hung:
                    process.send_signal(number)

    def pace(self):
        while not self.over.is_set():
            self.signal(signal.SIGCONT)
            time.sleep(BEAT * self.share)
            self.signal(signal.SIGSTOP)
            time.sleep(BEAT * (1 - self.share))
        self.signal(signal.SIGCONT)

    def close(self):
        self.over.set()
        if self.pacer.is_alive():
            self.pacer.join()
        for port in list(self.running):
            self.kill(port)


class Site:
    """One process: gateway, and site in front of the servers."""

    def __init__(self, options, directory, workers):
        own = directory / "node"
        init = [options.mainstay, "node", "init", "--name", "edge-1", "--dir", str(own), "--json"]
        subprocess.run(init, check=True, stdout=subprocess.DEVNULL)
        self.api, self.admin, link = ports(3)
        text = f"""
[listen]
api = "127.0.0.1:{self.api}"
admin = "127.0.0.1:{self.admin}"
link = "127.0.0.1:{link}"
[node]
name = "edge-1"
ca_file = "{own}/ca.pem"
cert_file = "{own}/node.pem"
key_file = "{own}/node.key"
data_dir = "{own}/data"
[log]
format = "json"
[[site]]
name = "here"
node = "https://127.0.0.1:{link}"
node_name = "edge-1"
models = [{{ name = "{MODEL}", window = {options.context}, completions = true, continue = true }}]
"""
        for port in workers:
            text += f"""[[site.worker]]
engine = "llama.cpp"
address = "http://127.0.0.1:{port}"
tokens_per_second = {options.rate}
"""
        file = directory / "mainstay.toml"
        file.write_text(text)
        self.path = directory / "mainstay.log"
        self.log = open(self.path, "wb")
        command = [options.mainstay, "serve", "--config", str(file)]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        until("the gateway", 30, lambda: get(self.api, "/v1/models")[0] == 200)
        until("an answer", 30, lambda: ask(self.api, question(0, 20, True), Answer()).is_whole)

    def moved(self):
        """Requests whose answers went on at another worker, and those that a gateway resumed."""
        inside, resumed = set(), set()
        for line in self.path.read_text().splitlines():
            try:
                fields = json.loads(line)
            except ValueError:
                continue
            fields = {**fields, **fields.get("fields", {})}
            if fields.get("fact") == "moved_inside":
                inside.add(fields["request"])
            if fields.get("resumes"):
                resumed.add(fields["request"])
        return inside, resumed

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()


def question(subject, length, is_chat, temperature=0.0, stream=True):
    text = f"Tell me of {SUBJECTS[subject % len(SUBJECTS)]}."
    body = {"model": MODEL, "max_tokens": length, "temperature": temperature, "stream": stream}
    if is_chat:
        return "/v1/chat/completions", {**body, "messages": [{"role": "user", "content": text}]}
    return "/v1/completions", {**body, "prompt": text}


class Answer:
    """What came of one request."""

    def __init__(self):
        self.request, self.text, self.times, self.trouble = "", [], [], ""
        self.is_whole = self.is_shed = False

    def take(self, chunk):
        if "error" in chunk:
            self.trouble = json.dumps(chunk["error"])
        for choice in chunk.get("choices", []):
            part = choice.get("delta") or choice.get("message") or choice
            piece = part.get("content") or part.get("text") or ""
            if piece:
                self.text.append(piece)
                self.times.append(time.monotonic())
            self.is_whole |= choice.get("finish_reason") in ("length", "stop")

    def gap(self):
        """The longest silence between two tokens."""
        gaps = [b - a for a, b in zip(self.times, self.times[1:])]
        return max(gaps, default=0.0)


def ask(port, what, answer):
    """Asks and reads the answer to its end, however it ends."""
    path, body = what
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        link.request("POST", path, json.dumps(body), {"content-type": "application/json"})
        reply = link.getresponse()
        answer.request = reply.getheader("x-request-id", "")
        if reply.status != 200:
            answer.trouble = f"status {reply.status}: {reply.read()[:200]!r}"
            answer.is_shed = reply.status == 503 and "overloaded" in answer.trouble
        elif body["stream"]:
            has_end = False
            for line in reply:
                line = line.decode().strip()
                has_end |= line == "data: [DONE]"
                if line.startswith("data: {"):
                    answer.take(json.loads(line[6:]))
            answer.is_whole &= has_end
        else:
            answer.take(json.loads(reply.read()))
    except (OSError, http.client.HTTPException, ValueError) as error:
        answer.trouble = repr(error)
    finally:
        link.close()
    return answer


class Clients:
    """They ask, one after another each, until told to stop."""

    def __init__(self, options, port, right):
        self.port, self.right = port, right
        self.over, self.lock, self.done = threading.Event(), threading.Lock(), []
        names = range(options.clients)
        self.threads = [threading.Thread(target=self.run, args=(seed,)) for seed in names]

    def run(self, seed):
        chance = random.Random(seed)
        while not self.over.is_set():
            subject, length = chance.randrange(len(SUBJECTS)), chance.choice(LENGTHS)
            is_chat, stream = chance.random() < 0.7, chance.random() < 0.85
            temperature = 0.0 if chance.random() < 0.8 else 0.8
            what = question(subject, length, is_chat, temperature, stream)
            answer = ask(self.port, what, Answer())
            right = self.right[subject, is_chat][:length] if temperature == 0.0 else None
            text = "".join(answer.text)
            answer.is_right = text == right if right is not None else len(text) == length
            answer.is_greedy = temperature == 0.0
            answer.length = length
            with self.lock:
                self.done.append(answer)
            if answer.is_shed:
                time.sleep(1)

    def close(self):
        self.over.set()
        for thread in self.threads:
            thread.join()


def share(sorted_values, part):
    if not sorted_values:
        return None
    return round(sorted_values[min(len(sorted_values) - 1, int(part * len(sorted_values)))], 3)


def play(options, directory):
    servers = Servers(options, directory)
    site = None
    try:
        right = {}
        for subject in range(len(SUBJECTS)):
            for is_chat in (True, False):
                what = question(subject, max(LENGTHS), is_chat)
                right[subject, is_chat] = "".join(ask(servers.ports[0], what, Answer()).text)
        site = Site(options, directory, servers.ports)
        servers.pacer.start()
        clients = Clients(options, site.api, right)
        began, kills = time.monotonic(), 0
        for thread in clients.threads:
            thread.start()
        while time.monotonic() - began + options.every < options.seconds:
            time.sleep(options.every / 2)
            port = servers.ports[kills % len(servers.ports)]
            if options.hang:
                servers.hang(port)
            else:
                servers.kill(port)
            kills += 1
            time.sleep(options.every / 2)
            if options.hang:
                servers.kill(port)
            servers.start(port)
        time.sleep(max(0.0, options.seconds - (time.monotonic() - began)))
        clients.close()
        return report(options, clients.done, site.moved(), kills)
    finally:
        if site:
            site.close()
        servers.close()


def report(options, done, moved, kills):
    inside, resumed = moved
    shed = [a for a in done if a.is_shed]
    done = [a for a in done if not a.is_shed]
    harmed = [a for a in done if a.trouble or not a.is_whole or not a.is_right]
    begun = [a for a in done if a.request in inside and len(a.times) > 1]
    calm = sorted(a.gap() for a in done if a.request not in inside | resumed and len(a.times) > 1)
    usual = share(calm, 0.5) or 0.0
    gaps = sorted(max(0.0, a.gap() - usual) for a in begun)
    greedy = [a for a in done if a.is_greedy and a.request in inside]
    wrong = [a for a in harmed if not a.trouble and a.is_whole]
    return {
        "seconds": options.seconds,
        "workers": options.workers,
        "clients": options.clients,
        "kills": kills,
        "answers": len(done),
        "tokens": sum(len("".join(a.text)) for a in done),
        "shed": len(shed),
        "shed_by": sorted({re.sub(r"[0-9.]+ s", "… s", a.trouble) for a in shed}),
        "failed": len(harmed),
        "failed_by": sorted({a.trouble or ("not whole" if not a.is_whole else "other text") for a in harmed}),
        "continued_by_the_site": len([a for a in done if a.request in inside]),
        "resumed_by_the_gateway": len([a for a in done if a.request in resumed]),
        "greedy_continued": len(greedy),
        "greedy_continued_exact": len([a for a in greedy if a.is_right]),
        "whole_but_other_text": len(wrong),
        "usual_longest_gap_p50_s": usual,
        "added_gap_p50_s": share(gaps, 0.5),
        "added_gap_p99_s": share(gaps, 0.99),
        "added_gap_max_s": round(gaps[-1], 3) if gaps else None,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--for", dest="seconds", type=float, default=300, help="seconds of load")
    parser.add_argument("--every", type=float, default=20, help="seconds from kill to kill")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--share", type=float, default=0.1, help="of the time that servers run")
    parser.add_argument("--rate", type=int, default=2000, help="tokens a second said of each server")
    parser.add_argument("--context", type=int, default=2048, help="tokens of a prompt and its answer")
    parser.add_argument("--mainstay", default=PROGRAM)
    parser.add_argument("--hang", action="store_true", help="stop servers for a while before killing")
    parser.add_argument("--check", action="store_true", help="exit code 1 if an answer was harmed")
    parser.add_argument("--keep", action="store_true", help="leave files and logs, and say where")
    options = parser.parse_args()
    directory = pathlib.Path(tempfile.mkdtemp(prefix="mainstay-workers-"))
    try:
        told = play(options, directory)
    finally:
        if options.keep:
            print(directory, file=sys.stderr)
        else:
            shutil.rmtree(directory)
    print(json.dumps(told, indent=2))
    is_good = told["failed"] == 0 and told["continued_by_the_site"] > 0
    sys.exit(0 if is_good or not options.check else 1)


if __name__ == "__main__":
    main()
