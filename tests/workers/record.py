"""Records what a real llama.cpp server says of itself, idle, at work and full, into `fixtures/llama.cpp`.

    python tests/workers/record.py
"""

import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
FOLDER = HERE / "fixtures/llama.cpp"
SLOTS, REQUESTS, TOKENS = 4, 6, 1500


def fetch(port, path, body=None):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body)
    try:
        return urllib.request.urlopen(request).read()
    except urllib.error.HTTPError as error:
        return error.read()


def complete(port, tokens):
    body = {"prompt": "tell me of the sea", "n_predict": tokens, "temperature": 0}
    return fetch(port, "/completion", json.dumps(body).encode())


def record(port, directory):
    def keep(name, text):
        (FOLDER / name).write_bytes(text.replace(str(directory).encode(), b"/models"))

    keep("completion.json", complete(port, 4))
    keep("completion-cached.json", complete(port, 4))
    asking = [threading.Thread(target=complete, args=(port, TOKENS)) for _ in range(REQUESTS)]
    for thread in asking:
        thread.start()
    while b"requests_deferred 2" not in fetch(port, "/metrics"):
        time.sleep(0.005)
    keep("metrics-busy.txt", fetch(port, "/metrics"))
    keep("slots-busy.json", fetch(port, "/slots"))
    keep("slots-full.json", fetch(port, "/slots?fail_on_no_slot=1"))
    keep("props.json", fetch(port, "/props"))
    for thread in asking:
        thread.join()
    keep("metrics-idle.txt", fetch(port, "/metrics"))


def main():
    with tempfile.TemporaryDirectory() as directory, socket.create_server(("127.0.0.1", 0)) as held:
        port, model = held.getsockname()[1], pathlib.Path(directory) / "letters.gguf"
        held.close()
        subprocess.run([sys.executable, HERE / "model.py", model], check=True)
        command = [sys.executable, HERE / "server.py", str(model), str(port), str(SLOTS)]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            server.stdout.readline()
            record(port, directory)
        finally:
            server.kill()
            server.wait()


if __name__ == "__main__":
    main()
