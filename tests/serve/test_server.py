"""The service as a process: tokens, killed workers, shutdown; with a model without torch."""

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import pytest


@pytest.fixture
def photo(photo_folder):
    return (photo_folder / "photo_04.png").read_bytes()


def test_a_token_is_asked_for(photo, serve):
    env = {"QFM_TOKEN": "a-secret-of-ours"}
    with serve("default", "--host", "0.0.0.0", env=env) as service:
        service.url = service.url.replace("0.0.0.0", "127.0.0.1")
        right = {"Authorization": "Bearer a-secret-of-ours"}
        with service.client() as client:
            for path in ("/v1/model", "/metrics"):
                assert client.get(path).status_code == 401
                assert (
                    client.get(path, headers={"Authorization": "Bearer a-secret"}).status_code
                    == 401
                )
                assert (
                    client.get(
                        path, headers={"Authorization": "Basic a-secret-of-ours"}
                    ).status_code
                    == 401
                )
                assert client.get(path, headers=right).status_code == 200
            assert client.post("/v1/score", content=photo).status_code == 401
            assert client.post("/v1/score", content=photo, headers=right).status_code == 200
            for path in ("/", "/healthz", "/docs", "/static/page.js"):
                assert client.get(path).status_code == 200
        assert "a-secret" not in "".join(service.said)


def test_a_worker_that_dies_costs_one_image_and_an_end_finishes_what_was_begun(photo, serve):
    with serve("default") as service:
        with service.client() as client:
            first = client.post("/v1/score", content=photo).json()
            (worker,) = service.children()
            os.kill(worker, signal.SIGKILL)
            lost = client.post("/v1/score", content=photo)
            assert lost.status_code == 413
            assert "crashed" in lost.json()["error"]
            (again,) = client.post("/v1/score", content=photo).json()["results"]
            assert again | {"seconds": 0} == first["results"][0] | {"seconds": 0}
            assert service.children() != [worker]
            assert "qfm_decoder_restarts 1.0" in client.get("/metrics").text

        # A request in progress at shutdown: half of it is still to be sent.
        host, port = service.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            head = (
                f"POST /v1/score HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(photo)}\r\n\r\n"
            )
            connection.sendall(head.encode() + photo[: len(photo) // 2])
            time.sleep(0.5)
            service.process.send_signal(signal.SIGINT)
            time.sleep(0.5)
            assert service.process.poll() is None
            connection.sendall(photo[len(photo) // 2 :])
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
        assert answer.startswith(b"HTTP/1.1 200")
        assert str(first["results"][0]["score"]).encode() in answer
        assert service.process.wait(60) == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)), 5)
    assert "Traceback" not in "".join(service.said)


def test_more_than_can_be_served_is_told_to_wait(photo, serve):
    # Pending bytes count: one slow request holds nearly all that may be pending.
    with serve("default", "--max-request-mb", 399) as service:
        host, port = service.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as slow, service.client() as client:
            head = f"POST /v1/score HTTP/1.1\r\nHost: {host}\r\nContent-Length: 398999999\r\n\r\n"
            slow.sendall(head.encode())
            deadline = time.monotonic() + 30
            while "qfm_pending_bytes 3.98" not in client.get("/metrics").text:
                assert time.monotonic() < deadline
            chunked = client.post("/v1/score", content=iter([photo]))
            assert chunked.status_code == 429
            assert chunked.headers["retry-after"] == "1"
            assert client.post("/v1/score", content=photo).status_code == 200
        with service.client() as client:
            answers = []
            threads = [
                threading.Thread(
                    target=lambda: answers.append(client.post("/v1/score", content=photo))
                )
                for _ in range(24)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert {answer.status_code for answer in answers} == {200}
            assert len({answer.json()["results"][0]["score"] for answer in answers}) == 1


def test_another_loopback_address_is_local_too(serve):
    with serve("default", "--host", "127.0.0.2") as service, service.client() as client:
        assert service.url.startswith("http://127.0.0.2:")
        assert client.get("/healthz").status_code == 200
        assert client.get("/healthz", headers={"Host": "elsewhere.example"}).status_code == 421


@pytest.mark.skipif(sys.platform != "linux", reason="open files are seen in /proc")
def test_nothing_of_a_request_is_stored(photo, serve, tmp_path):
    start = b'--b\r\nContent-Disposition: form-data; name="files"; filename="'
    body = start + b'large"\r\n\r\n' + bytes(20_000_000) + b"\r\n"
    body += start + b'photo"\r\n\r\n' + photo + b"\r\n--b--\r\n"
    with serve("default", env={"TMPDIR": str(tmp_path)}) as service:
        files = Path(f"/proc/{service.process.pid}/fd")

        def stored():
            """Files in the folder for temporary ones, with those that have no name there."""
            opened = [str(file.readlink()) for file in files.iterdir() if file.is_symlink()]
            return [name for name in opened if str(tmp_path) in name] + list(tmp_path.iterdir())

        host, port = service.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection, service.client() as client:
            head = (
                f"POST /v1/score HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n"
                "Content-Type: multipart/form-data; boundary=b\r\nConnection: close\r\n\r\n"
            )
            connection.sendall(head.encode() + body[:-9])
            deadline = time.monotonic() + 30
            while "qfm_pending_bytes 2.0" not in client.get("/metrics").text:
                assert time.monotonic() < deadline
            time.sleep(1)  # all except the end was received
            assert stored() == []
            connection.sendall(body[-9:])
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.count(b'"status":"ok"') == 1
        assert stored() == []
