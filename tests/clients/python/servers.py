"""Starts the real program for the client tests: a fault server, gateways in front of it, and one
with nothing but the embedded engine. Each ends with the `with` that started it."""

import contextlib
import json
import os
import pathlib
import re
import subprocess
import tempfile
import threading

ROOT = pathlib.Path(__file__).resolve().parents[3]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PROGRAM = os.environ.get("MAINSTAY_PROGRAM", str(TARGET / "release" / "mainstay"))

# Loading and first sockets on a busy machine; a start takes far less.
START_SECONDS = 60

# One model for each way a request can go. `first` fails by its model's name, `second` never does.
CONFIG = """
[listen]
api = "127.0.0.1:0"
admin = "127.0.0.1:0"
[limits]
profile = "fast"
[[site]]
name = "first"
provider = "openai"
base_url = "{first}"
key = "sk-first"
[[site]]
name = "second"
provider = "openai"
base_url = "{second}"
key = "sk-second"
[[model]]
name = "ok"
served_by = ["first/ok", "second/ok"]
[[model]]
name = "cut"
served_by = ["first/f08", "second/ok"]
[[model]]
name = "reset"
served_by = ["first/f05", "second/ok"]
[[model]]
name = "overloaded"
served_by = ["first/f04"]
[[model]]
name = "unpaid"
served_by = ["first/f23a"]
[[model]]
name = "policy"
served_by = ["first/f13"]
[[model]]
name = "short-window"
served_by = ["first/f12"]
[[model]]
name = "silent"
served_by = ["first/f06"]
{more}
"""


class Gateway:
    """A running gateway: its URLs and what it said."""

    def __init__(self, process, api, admin, said):
        self.process, self.api, self.admin, self.said = process, api, admin, said


def clean_environment():
    """This process's environment without anything that would make a site or change a setting."""
    kept = {}
    for name, value in os.environ.items():
        if not re.search(r"_API_KEY$|_BASE_URL$|^MAINSTAY__|_proxy$|_PROXY$", name):
            kept[name] = value
    return kept


@contextlib.contextmanager
def running(arguments, stdout=None):
    process = subprocess.Popen(
        [PROGRAM, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=stdout or subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**clean_environment(), "MAINSTAY__LISTEN__ADMIN": "127.0.0.1:0"},
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def gateway(config=None):
    """A gateway with `config`, or without a file: the embedded engine alone."""
    with tempfile.TemporaryDirectory() as directory:
        arguments = ["serve"]
        if config is None:
            arguments += ["--listen", "127.0.0.1:0"]
        else:
            path = pathlib.Path(directory) / "mainstay.toml"
            path.write_text(config)
            arguments += ["--config", str(path)]
        with running(arguments) as process:
            said, found, up = [], {}, threading.Event()

            def listen():
                for line in process.stderr:
                    said.append(line)
                    match = re.match(r"listening api=(\S+) admin=(\S+)", line)
                    if match:
                        found["api"], found["admin"] = match.groups()
                        up.set()
                up.set()

            threading.Thread(target=listen, daemon=True).start()
            up.wait(START_SECONDS)
            assert found, "no line `listening …`:\n" + "".join(said)
            yield Gateway(process, found["api"], found["admin"], said)


@contextlib.contextmanager
def fault_server():
    """A fault server's address."""
    arguments = ["faults", "serve", "--listen", "127.0.0.1:0", "--json"]
    with running(arguments, stdout=subprocess.PIPE) as process:
        yield json.loads(process.stdout.readline())["url"]


def config(faults, scope, more=""):
    """The configuration of a gateway in front of `faults`, apart from others by `scope`."""
    return CONFIG.format(
        first=f"{faults}/s/{scope}-first/v1", second=f"{faults}/s/{scope}-second/v1", more=more
    )
