"""A real tracking server that freezes, dies and comes back while a sweep goes on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from orchestrator.events import Record
from orchestrator.sinks.mlflow import MlflowSink
from tests.orchestrator.sinks.test_mlflow import BUDGET, POOL, check_whole, sweep
from tests.orchestrator.worlds import fresh


class Server:
    """`mlflow server` on a port of this machine, over a database in `folder`."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self.port = taken.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self._command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
        self._command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
        self._command += ["--artifacts-destination", str(folder / "files")]
        self._command += ["--port", str(self.port)]
        self._log = (folder / "server.log").open("a")
        self.start()

    def start(self) -> None:
        slim = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self._process = subprocess.Popen(
            self._command, env=slim, stdout=self._log, stderr=self._log, start_new_session=True
        )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{self.address}/health", timeout=2).read()
                return
            except OSError:
                time.sleep(0.3)
        pytest.fail("the server did not start within two minutes")

    def send(self, number: int) -> None:
        os.killpg(self._process.pid, number)

    def kill(self) -> None:
        if self._process.poll() is None:
            self.send(signal.SIGCONT)
            self.send(signal.SIGKILL)
            self._process.wait()


def wait_for(heard: list[str], number: int) -> None:
    deadline = time.monotonic() + 60
    while len(heard) < number and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(heard) == number, heard


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_server_that_freezes_and_dies_delays_nobody_and_hears_everything_in_the_end(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    records, end = sweep(time.time() - 100)
    server, journal, heard = Server(tmp_path), list[Record](), list[str]()
    law = tmp_path / "law.json"
    law.write_text("{}")
    try:
        sink = MlflowSink(
            initial=fresh(POOL, BUDGET),
            read_after=lambda seq: [r for r in journal if r.seq > seq],
            tracking_uri=server.address,
            experiment="server",
            storage=tmp_path / "small",
            spec_text="{}",
            say=heard.append,
            grace_s=60.0,
        )

        def go_on(upto: int) -> None:
            for record in records[len(journal) : upto]:
                journal.append(record)
                began = time.perf_counter()
                sink.show([record], end)
                assert time.perf_counter() - began < 0.2

        third = len(records) // 3
        go_on(third)
        time.sleep(10)
        server.send(signal.SIGSTOP)
        go_on(third + 5)
        wait_for(heard, 1)
        server.send(signal.SIGCONT)
        wait_for(heard, 2)
        server.kill()
        go_on(2 * third)
        wait_for(heard, 3)
        server.start()
        go_on(len(records))
        wait_for(heard, 4)
        sink.publish(law={"alpha": 0.3}, artifacts=[law], answer="L = 2")
        sink.close()
    finally:
        server.kill()
    assert [("does not answer" in line, "answers again" in line) for line in heard] == [
        (True, False),
        (False, True),
    ] * 2
    check_whole(tmp_path, "server", end)
    assert capfd.readouterr() == ("", ""), "MLflow's own lines stay off the terminal"
