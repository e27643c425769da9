"""The Hugging Face hub on this machine: one repository, served from a folder over real HTTP."""

import hashlib
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hub(BaseHTTPRequestHandler):
    """The Hugging Face hub's response to a request for a file of a public repository."""

    def answer(self, body_wanted):
        place = self.path.split("?")[0].split("/") + [""] * 5
        owner, name, verb, revision, file = *place[1:5], "/".join(filter(None, place[5:]))
        self.server.asked.append(f"{self.command} {self.path}")
        path = self.server.folder / file
        if self.server.overloaded:
            self.server.overloaded -= 1
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        known = (owner, name, verb) == ("owner", "name", "resolve")
        if not known or not path.is_file():
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        assert revision in ("main", "c" * 40)
        body = path.read_bytes()
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", "c" * 40)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if body_wanted:
            self.wfile.write(body)

    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        self.answer(True)

    def log_message(self, *_):
        pass


@contextmanager
def serving_hub(folder, overloaded=0):
    """Serves a folder as the repository `owner/name`; records requests in `.asked`.

    The first `overloaded` requests are refused.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.folder, server.asked, server.overloaded = folder, [], overloaded
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


LOADING = """
import sys
from qfm_iqm import QFMError, load_model
for name in sys.argv[1:]:
    try:
        print(load_model(name).card.weights_sha256)
    except QFMError as error:
        print(error)
"""


def load_in_process(*names, home, code=LOADING, **environment):
    """The output of loading, one line per name, in a separate process.

    The hub's client reads its settings at import.
    """
    clean = {
        key: value for key, value in os.environ.items()
        if not key.startswith("HF_") and not key.lower().endswith("_proxy")
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code, *names],
        env=clean | {"HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()
