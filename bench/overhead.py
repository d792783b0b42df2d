#!/usr/bin/env python3
"""What Mainstay adds to a request, measured beside HAProxy on the same upstream in the same run.

Needs haproxy and wrk (Debian packages of those names) and a release build:

    cargo build --release && python3 bench/overhead.py [--rounds 5] [--seconds 4] [--json]

The upstream is a second HAProxy that answers from memory: a 16-token answer as a stream or as one
JSON body, as asked. Each round measures direct, HAProxy and Mainstay in turn, for plain and
streamed answers at 1 and 64 connections; the medians of the rounds are printed. Upstream, proxy and
load generator share the machine, so requests a second are given per core that the proxy itself
used (its CPU time from /proc), and latencies as what is added to the direct call. Mainstay runs
with a key to check, health, metrics and its log on; HAProxy only forwards.

A client's plain request goes upstream as a stream, so that silence and cuts are noticed; the row
"plain, as plain" is Mainstay with `stream = false` on the site, which forwards like HAProxy does.
"""

import argparse
import hashlib
import json
import os
import pathlib
import re
import signal
import socket
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
KEY = "sk-bench"
WORDS = [" the", " light", " keeps", " the", " harbour"] * 3 + ["."]


def chunk(delta, finish="null"):
    return (
        '{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1790000000,"model":"m",'
        f'"choices":[{{"index":0,"delta":{delta},"finish_reason":{finish}}}]}}'
    )


def stream_body():
    events = [chunk('{"role":"assistant","content":""}')]
    events += [chunk(json.dumps({"content": word})) for word in WORDS]
    events.append(chunk("{}", '"stop"'))
    events.append(
        '{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1790000000,"model":"m",'
        '"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":16,"total_tokens":25}}'
    )
    return "".join(f"data: {event}\n\n" for event in events) + "data: [DONE]\n\n"


def plain_body():
    message = {"role": "assistant", "content": "".join(WORDS)}
    usage = {"prompt_tokens": 9, "completion_tokens": 16, "total_tokens": 25}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1790000000, "model": "m"}
    return json.dumps({**head, "choices": [choice], "usage": usage})


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


COMMON = """global
  maxconn 4096
  nbthread 1
defaults
  mode http
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  option http-keep-alive
"""


def program():
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return str(target / "release" / "mainstay")


def start(command, log):
    with open(log, "w") as out:
        return subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)


def wait_for(port):
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=0.2).close()
            return
        except OSError:
            time.sleep(0.05)  # waits for: a server to listen
    raise SystemExit(f"nothing listens on port {port}")


def cpu_seconds(pid):
    ticks = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        fields = (task / "stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_mib(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024


def wrk(port, mode, connections, seconds, scripts):
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", scripts[mode]]
    out = subprocess.run(
        [*command, f"http://127.0.0.1:{port}/v1/chat/completions"], capture_output=True, text=True
    ).stdout
    done = re.search(r"DONE (\d+) (\d+) (\d+) (\d+) (\d+)", out)
    if not done:
        raise SystemExit(f"wrk failed: {out}")
    requests, micros, p50, p99, errors = map(int, done.groups())
    if errors:
        raise SystemExit(f"{errors} errors on port {port} ({mode}): {out}")
    return {"requests": requests, "rps": requests / (micros / 1e6), "p50": p50, "p99": p99}


# Asks as whom, and tells what became of it.
LUA_ASK = """
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer %s"
"""
LUA_DONE = """
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("DONE %%d %%d %%d %%d %%d\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""
LUA = LUA_ASK + "wrk.body = '%s'" + LUA_DONE


class Servers:
    """Upstream, HAProxy and Mainstay (twice: by stream and as plain), on free ports."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.processes = {}
        self.ports = {name: free_port() for name in ("direct", "haproxy", "mainstay", "as plain")}
        self.upstream()
        self.haproxy()
        self.mainstay("mainstay", "true")
        self.mainstay("as plain", "false")
        for port in self.ports.values():
            wait_for(port)

    def run_haproxy(self, name, text):
        path = self.folder / f"{name}.cfg"
        path.write_text(COMMON + text)
        command = ["haproxy", "-db", "-f", str(path)]
        self.processes[name] = start(command, self.folder / f"{name}.log")

    def upstream(self):
        (self.folder / "stream.txt").write_text(stream_body())
        (self.folder / "plain.txt").write_text(plain_body())
        self.run_haproxy(
            "direct",
            f"""frontend upstream
  bind 127.0.0.1:{self.ports["direct"]}
  option http-buffer-request
  acl stream req.body -m sub "stream\\":true"
  http-request return status 200 content-type text/event-stream file {self.folder}/stream.txt if stream
  http-request return status 200 content-type application/json file {self.folder}/plain.txt
""",
        )

    def haproxy(self):
        self.run_haproxy(
            "haproxy",
            f"""frontend front
  bind 127.0.0.1:{self.ports["haproxy"]}
  default_backend up
backend up
  http-reuse always
  server one 127.0.0.1:{self.ports["direct"]}
""",
        )

    def mainstay(self, name, stream):
        digest = hashlib.sha256(KEY.encode()).hexdigest()
        path = self.folder / f"{name.replace(' ', '-')}.toml"
        path.write_text(
            f"""[listen]
api = "127.0.0.1:{self.ports[name]}"
admin = "127.0.0.1:{free_port()}"
[[site]]
name = "up"
provider = "openai"
base_url = "http://127.0.0.1:{self.ports["direct"]}/v1"
key = "sk-up"
stream = {stream}
[[model]]
name = "m"
served_by = ["up/m"]
[[key]]
name = "bench"
tier = "pro"
hash = "{digest}"
"""
        )
        command = [program(), "serve", "--config", str(path)]
        self.processes[name] = start(command, self.folder / f"{path.stem}.log")

    def stop(self):
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def measure(servers, rounds, seconds):
    scripts = {}
    for mode, stream in (("plain", "false"), ("stream", "true")):
        body = (
            f'{{"model":"m","stream":{stream},"messages":[{{"role":"user","content":"hello"}}]}}'
        )
        path = servers.folder / f"{mode}.lua"
        path.write_text(LUA % (KEY, body))
        scripts[mode] = str(path)
    cases = [(mode, n) for mode in ("plain", "stream") for n in (1, 64)]
    results = {}
    for number in range(rounds + 1):
        for mode, connections in cases:
            for name in servers.ports:
                if name == "as plain" and mode == "stream":
                    continue
                pid = servers.processes[name].pid
                before = cpu_seconds(pid)
                got = wrk(servers.ports[name], mode, connections, seconds, scripts)
                got["per_core"] = got["requests"] / max(cpu_seconds(pid) - before, 0.01)
                if number > 0:  # the first round warms up
                    results.setdefault((mode, connections, name), []).append(got)
    return results


def summary(results):
    rows = []
    for (mode, connections, name), runs in results.items():
        if name == "direct":
            continue
        direct = results[(mode, connections, "direct")]
        added = lambda key: statistics.median(r[key] - d[key] for r, d in zip(runs, direct))
        rival = results[(mode, connections, "haproxy")]
        ratio = lambda key: statistics.median(r[key] / h[key] for r, h in zip(runs, rival))
        rows.append(
            {
                "mode": mode,
                "connections": connections,
                "proxy": name,
                "rps": round(statistics.median(r["rps"] for r in runs)),
                "per_core": round(statistics.median(r["per_core"] for r in runs)),
                "added_p50_us": round(added("p50")),
                "added_p99_us": round(added("p99")),
                "rps_to_haproxy": round(ratio("rps"), 2),
                "per_core_to_haproxy": round(ratio("per_core"), 2),
            }
        )
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        servers = Servers(folder)
        try:
            rows = summary(measure(servers, options.rounds, options.seconds))
            memory = memory_mib(servers.processes["mainstay"].pid)
        finally:
            servers.stop()
    if options.json:
        print(json.dumps({"rows": rows, "mainstay_rss_mib": round(memory, 1)}))
        return
    print(f"{'':8}{'conn':>5}  {'proxy':10}{'req/s':>8}{'req/s/core':>12}{'+p50 us':>9}{'+p99 us':>9}"
          f"{'req/s vs HAProxy':>18}{'per core vs HAProxy':>21}")
    for r in rows:
        print(f"{r['mode']:8}{r['connections']:>5}  {r['proxy']:10}{r['rps']:>8}{r['per_core']:>12}"
              f"{r['added_p50_us']:>9}{r['added_p99_us']:>9}{r['rps_to_haproxy']:>18}"
              f"{r['per_core_to_haproxy']:>21}")
    print(f"memory of Mainstay after the load: {memory:.1f} MiB")


if __name__ == "__main__":
    main()
