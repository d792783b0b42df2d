"""Webhooks of the real program, received by the code that the guide gives."""

import http.server
import json
import queue
import re
import subprocess
import threading
import time

import pytest
import servers

SECRET = "a secret of this test alone"
GUIDE = servers.ROOT / "docs/guide/status-page.md"
SOON = 30


@pytest.fixture(scope="module")
def guide():
    """What the guide's receiver defines."""
    code = re.search(r"```python\n(import hashlib, hmac.*?)```", GUIDE.read_text(), re.S)
    defined = {}
    exec(code.group(1), defined)
    return defined


@pytest.fixture
def inbox(guide):
    return guide["Inbox"](SECRET.encode())


@pytest.fixture(scope="module")
def sent():
    """A message as it arrives twice: the answer to the first is an error."""
    came = queue.Queue()
    answers = iter([500])

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            came.put((self.headers["x-mainstay-signature"], body))
            self.send_response(next(answers, 204))
            self.end_headers()

        def log_message(self, *_):
            pass

    receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAINSTAY_HOOK_SECRET", SECRET)
        url = f"http://127.0.0.1:{receiver.server_port}/hook"
        config = f"""
[listen]
api = "127.0.0.1:0"
admin = "127.0.0.1:0"
status = "127.0.0.1:0"
[[status.webhook]]
url = "{url}"
secret_env = "MAINSTAY_HOOK_SECRET"
"""
        with servers.gateway(config) as gateway:
            command = [servers.PROGRAM, "incident", "open", "It <b>rains</b>", "--admin"]
            subprocess.run([*command, gateway.admin], check=True, capture_output=True)
            messages = [came.get(timeout=SOON), came.get(timeout=SOON)]
    receiver.shutdown()
    return messages


def test_a_message_is_taken_once_though_it_is_sent_again(inbox, sent):
    first, again = sent
    taken = inbox.take(*first)
    assert (taken["kind"], taken["event"]) == ("incident", "opened")
    assert taken["incident"]["name"] == "It <b>rains</b>"
    assert first[1] == again[1] and inbox.take(*again) is None


def test_what_was_listened_to_cannot_be_played_again(guide, inbox, sent, monkeypatch):
    signature, body = sent[0]
    monkeypatch.setattr(time, "time", lambda wall=time.time: wall() + 301)
    with pytest.raises(ValueError):
        inbox.take(signature, body)
    seconds = int(time.time())
    later = re.sub(r"t=\d+", f"t={seconds}", signature)
    with pytest.raises(ValueError):
        inbox.take(later, body)


@pytest.mark.parametrize("signature", ["", "t=1", "v1=00", "t=x,v1=00", "t=1,v1=\u00e9", ",=,="])
def test_who_does_not_sign_is_nobody(inbox, sent, signature):
    with pytest.raises(ValueError):
        inbox.take(signature, sent[0][1])


def test_a_changed_message_or_another_secret_is_refused(guide, inbox, sent):
    signature, body = sent[0]
    changed = json.dumps({**json.loads(body), "id": "another"}).encode()
    with pytest.raises(ValueError):
        inbox.take(signature, changed)
    with pytest.raises(ValueError):
        guide["Inbox"](b"another").take(signature, body)
