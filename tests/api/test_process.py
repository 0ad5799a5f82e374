"""The service as a process on loopback: starts, refuses, drains, survives; sockets behave as promised."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.support.server_process import ServerProcess, environment

import vicinal
from vicinal.storage import sqlite
from vicinal.storage.files import Files

KEY = "k" * 32
ONE = "/v1/collections/papers"


def refused(directory: Path, **settings: str) -> str:
    """What a server that must not start says."""
    command = [sys.executable, "-m", "vicinal_server"]
    done = subprocess.run(command, env=environment(directory, **settings), capture_output=True, timeout=60, check=False)
    said = done.stderr.decode()
    assert done.returncode == 2, said
    assert "Traceback" not in said
    return said


def insert(server: ServerProcess, ids: list[Any]) -> None:
    tree = {"ids": ids, "vectors": [[float(i % 7), 1.0] for i in range(len(ids))]}
    assert server.client.post(ONE + "/insert", json=tree).status_code == 200


def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    home = tmp_path / "data"
    with ServerProcess(home, api_key=KEY) as server:
        assert server.client.put(ONE, json={"dim": 2, "metric": "l2"}).status_code == 201
        insert(server, [1, 2, "three"])
        assert server.end(signal.SIGKILL) == -signal.SIGKILL
    with ServerProcess(home, api_key=KEY) as server:
        assert server.client.post(ONE + "/count", json={}).json() == {"count": 3}
        insert(server, [4])
        hits = server.client.post(ONE + "/query", json={"vector": [0, 1], "k": 9}).json()["hits"]
        assert {h["id"] for h in hits} == {1, 2, "three", 4}
        assert server.end(signal.SIGTERM) == 0
        assert "Traceback" not in server.log
        for line in server.log.splitlines():
            orjson.loads(line)
        assert KEY not in server.log
    with vicinal.connect(home) as database:
        assert database.collection("papers").count() == 4


def test_the_log_of_a_failure_has_no_keys_and_no_data(tmp_path: Path) -> None:
    """It has the traceback, whose variables hold the request."""
    with vicinal.connect(tmp_path / "data") as database:
        database.create_collection("papers", dim=2).upsert([1], [[1, 2]])
    (path,) = (tmp_path / "data").rglob("*.vec")
    with path.open("r+b") as rows:
        rows.seek(4096)
        rows.write(b"damage")
    with ServerProcess(tmp_path / "data", api_key=KEY) as server:
        secret = {"ids": ["alice@example.org"], "vectors": [[1, 2]], "payloads": [{"said": "in confidence"}]}
        answers = [
            server.client.post(f"{ONE}/{verb}", json=body)
            for verb, body in {
                "insert": secret,
                "get": {"ids": ["alice@example.org"]},
                "query": {"vector": [1, 2], "filter": "said = 'in confidence'"},
            }.items()
        ]
        assert [answer.status_code for answer in answers] == [500] * 3
        assert "CorruptData" in server.log
        for text in (KEY, "alice@example.org", "in confidence"):
            assert text not in server.log


def test_sigterm_finishes_what_was_begun(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data") as server:
        server.client.put(ONE, json={"dim": 2, "metric": "l2"})
        statuses: list[int] = []

        def one() -> None:
            tree = {"ids": list(range(20_000)), "vectors": [[1.0, 2.0]] * 20_000}
            statuses.append(server.client.post(ONE + "/insert", json=tree).status_code)

        sender = threading.Thread(target=one)
        sender.start()
        while "vicinal_requests_in_flight 2.0" not in server.client.get("/metrics").text and sender.is_alive():
            time.sleep(0.001)
        assert server.end(signal.SIGTERM) == 0
        sender.join()
    with vicinal.connect(tmp_path / "data") as database:
        assert (statuses, database.collection("papers").count()) == ([200], 20_000)


def test_sockets_are_bounded(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data", body_seconds="0.3") as server:
        place = ("127.0.0.1", server.port)
        with socket.create_connection(place) as long_head:
            long_head.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: " + b"a" * 40_000)
            assert b"400" in long_head.recv(1000)
        with socket.create_connection(place) as many_headers:
            many_headers.sendall(b"GET /healthz HTTP/1.1\r\n" + b"x: 123456789\r\n" * 2000 + b"\r\n")
            assert b"400" in many_headers.recv(1000)
        with socket.create_connection(place) as slow_body:
            head = b"POST /v1/collections/c/count HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            slow_body.sendall(head + b"content-length: 9\r\n\r\n{")
            answer = b"".join(iter(lambda: slow_body.recv(1000), b""))
            assert answer.startswith(b"HTTP/1.1 408")
        assert server.client.get("/healthz").status_code == 200


@pytest.mark.full
def test_a_head_that_never_ends_is_cut_off(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data") as server:
        idle = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(100)]
        for one in idle:
            one.sendall(b"GET /healthz HTTP/1.1\r\nhost: local")
        assert server.client.get("/healthz").status_code == 200
        started = time.monotonic()
        for one in idle:
            assert one.recv(1000) == b""
            one.close()
        assert time.monotonic() - started < 20


def test_the_network_needs_a_key(tmp_path: Path) -> None:
    said = refused(tmp_path / "data", host="0.0.0.0")
    assert "without a key" in said
    assert "VICINAL_API_KEY" in said
    assert not (tmp_path / "data").exists()


def test_wrong_settings_name_the_variable(tmp_path: Path) -> None:
    assert "VICINAL_PORT" in refused(tmp_path / "data", port="many")


def test_a_directory_already_open_is_refused(tmp_path: Path) -> None:
    with vicinal.connect(tmp_path / "data"):
        assert "vicinal_server: " in refused(tmp_path / "data", port="0")


def test_a_directory_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    vicinal.connect(tmp_path / "data").close()
    connection = sqlite.connect(Files(), tmp_path / "data" / "database.db")
    connection.pragma("user_version", 99)
    connection.close()
    said = refused(tmp_path / "data", port="0")
    assert "format 99" in said
    assert "upgrade" in said


def test_a_port_already_taken_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = refused(tmp_path / "data", port=str(taken.getsockname()[1]))
    assert "cannot listen" in said
