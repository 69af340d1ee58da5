"""wandb online, with nobody logged in or a server that refuses: one line says so, nothing is asked, the run goes on."""

import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from assay.harness.arrays.records import read_records

pytest.importorskip("wandb")
RUN = ("dataset=digits", "metric=precision", "features=pixels", "n=50", "n_real=50", "sink=wandb")


def run(home: Path, server: str = "http://127.0.0.1:9", **more: str) -> tuple[int, list[str]]:
    """The exit code of `assay run` on a terminal, and the lines that it wrote there. Nobody answers a question."""
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB") and name != "NETRC"}
    environment = kept | {"HOME": str(home), "WANDB_BASE_URL": server, **more}
    command = [sys.executable, "-m", "assay", "run", *RUN, "sink.wandb.mode=online", f"out={home / 'out'}"]
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.DEVNULL, stderr=theirs, env=environment) as process:
        os.close(theirs)
        said = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            said += part
        code = process.wait(120)
    os.close(ours)
    return code, said.decode(errors="replace").replace("\r", "\n").splitlines()


@pytest.fixture
def refusing() -> Iterator[tuple[str, list[str]]]:
    """The address of a server that knows no key, and what it was asked."""
    asked = list[str]()

    class Refusing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(401)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b'{"errors": [{"message": "user is not logged in"}]}')

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_without_a_login_one_line_says_so_before_anything_is_computed(tmp_path: Path) -> None:
    code, said = run(tmp_path / "home", ASSAY_CACHE=str(tmp_path / "cache"))
    (line,) = [i for i, text in enumerate(said) if "wandb" in text]
    assert said[line] == (
        "sink wandb failed: mode=online needs an account: call `wandb login` first, or leave it out and call "
        "`wandb sync` later. All else goes on without it; it lacks everything from the start on"
    )
    assert all("%" not in text and "precision" not in text for text in said[:line]), "nothing was computed before"
    assert code == 0
    assert [record.status for record in read_records(tmp_path / "home" / "out" / "run")] == ["ok"]


def test_a_server_that_refuses_the_key_costs_one_line(tmp_path: Path, refusing: tuple[str, list[str]]) -> None:
    server, asked = refusing
    code, said = run(tmp_path / "home", server, WANDB_API_KEY="a" * 40)
    assert asked
    assert [text for text in said if text.startswith("sink wandb failed")] == [
        "sink wandb failed: CommError: user is not logged in. "
        "All else goes on without it; it lacks everything from the start on"
    ]
    assert code == 0
    assert [record.status for record in read_records(tmp_path / "home" / "out" / "run")] == ["ok"]
