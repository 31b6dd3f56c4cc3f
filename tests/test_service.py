"""The HTTP service in the examples, as a process of its own that many clients ask at once."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import xpcnn
from xpcnn import data, layers
from xpcnn.cli import main
from xpcnn.data.opencv import load_opencv

for name in ("fastapi", "uvicorn", "multipart"):
    pytest.importorskip(name)

SERVICE = Path(__file__).parents[1] / "examples" / "service.py"
CLIENTS = 32
#: The largest upload in bytes, and what the memory of the process may grow by when many times that is uploaded.
LIMIT = 1_000_000
MOST_GROWTH = 120 * 2**20


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model, pictures that all differ, and what `xpcnn predict` makes of each."""
    folder = tmp_path_factory.mktemp("service")
    model = xpcnn.Sequential([layers.Flatten(), layers.Dense(3, activation="softmax")], input_shape=(1, 32, 32))
    model.class_names = ("left", "right", "none")
    model.preprocessing = data.Preprocessing(data.Decoding(32, 32, 1), (100.0,), (40.0,))
    model.compile()
    model.save(folder / "model.safetensors")
    for number in range(CLIENTS):
        image = np.random.default_rng(number).integers(0, 256, (40, 40), dtype=np.uint8)
        load_opencv().imwrite(str(folder / f"{number:02}.png"), image)
    command = ["predict", folder / "model.safetensors", folder, "--format", "json", "-o", folder / "told.json"]
    assert main([*map(str, command), "--backend", "numpy"]) == 0
    told = {Path(row["path"]).name: row for row in json.loads((folder / "told.json").read_text())}
    gaps = np.diff(np.sort([row["probability"] for row in told.values()]))
    assert gaps.min() > 1e-5, "the answer to another picture would not be noticed"
    return SimpleNamespace(folder=folder, told=told, pictures=sorted(folder.glob("*.png")))


def start(place, *arguments):
    """Start the service on a free port; a namespace with its process and its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "XPCNN_BACKEND": "numpy"}
    process = subprocess.Popen(
        [sys.executable, SERVICE, place.folder / "model.safetensors", "--port", str(port), *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
    )  # fmt: skip
    lines = [process.stdout.readline() for _ in range(4)]
    assert "running on" in lines[-1], lines
    output = []
    reader = threading.Thread(target=lambda: output.extend(process.stdout), daemon=True)  # or the pipe would be full
    reader.start()
    return SimpleNamespace(process=process, port=port, output=output, reader=reader)


@pytest.fixture(scope="module")
def server(place):
    """The service with small limits."""
    running = start(place, "--most-bytes", LIMIT, "--most-at-once", CLIENTS, "--threads", 2)
    yield running
    running.process.kill()
    running.process.wait()


def form(name, files):
    """Return files as the body of a form, and its type."""
    parts = [
        f'--limit\r\nContent-Disposition: form-data; name="{name}"; filename="{file}"\r\n\r\n'.encode()
        + content
        + b"\r\n"
        for file, content in files
    ]
    return b"".join(parts) + b"--limit--\r\n", "multipart/form-data; boundary=limit"


def ask(server, method, path, body=None, kind=None, chunked=False):
    """Send one request, and return the status and the answer."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
    headers = {"Content-Type": kind} if kind else {}
    sent = (body[i : i + 10_000] for i in range(0, len(body), 10_000)) if chunked else body
    connection.request(method, path, sent, headers, encode_chunked=chunked)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, json.loads(content)


def predict(server, *paths, batch=False, padding=b""):
    files = [(path.name, path.read_bytes() + padding) for path in paths]
    body = form("files" if batch else "file", files)
    return ask(server, "POST", "/predict-batch" if batch else "/predict", *body)


def check(answer, told):
    """Assert that an answer is that of `xpcnn predict`."""
    assert answer["label"] == told["label"]
    assert answer["probability"] == pytest.approx(told["probability"], abs=1e-6)
    for one in told["top"]:
        assert answer["probabilities"][one["label"]] == pytest.approx(one["probability"], abs=1e-6)


def memory(process):
    """The resident memory of a process in bytes, which only Linux says; elsewhere 0."""
    status = Path(f"/proc/{process.pid}/status")
    return int(re.search(r"VmRSS:\s+(\d+) kB", status.read_text())[1]) * 1024 if status.exists() else 0


def test_it_says_that_it_is_there(server):
    assert ask(server, "GET", "/health") == (200, {"status": "ok", "classes": ["left", "right", "none"]})


def test_a_picture_gets_the_answer_of_the_command(server, place):
    status, answer = predict(server, place.pictures[3])
    assert status == 200
    assert answer["file"] == "03.png"
    check(answer, place.told["03.png"])


def test_several_pictures_get_their_answers_in_their_order(server, place):
    status, answers = predict(server, *reversed(place.pictures), batch=True)
    assert status == 200
    assert [answer["file"] for answer in answers] == [path.name for path in reversed(place.pictures)]
    for answer in answers:
        check(answer, place.told[answer["file"]])


def test_a_broken_picture_is_refused_in_one_line_and_does_not_spoil_others(server, place):
    broken = place.folder / "broken.jpg"
    broken.write_bytes(b"no picture")
    status, answer = predict(server, broken)
    assert status == 422
    assert re.fullmatch(r"broken\.jpg: .+", answer["detail"])
    status, answers = predict(server, place.pictures[0], broken, place.pictures[1], batch=True)
    assert status == 200
    assert [*answers[1]] == ["file", "error"]
    check(answers[0], place.told["00.png"])
    check(answers[2], place.told["01.png"])


def test_a_request_without_a_picture_is_refused(server):
    assert ask(server, "POST", "/predict", b"", "text/plain")[0] == 422
    assert ask(server, "GET", "/predict")[0] == 405


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_upload_is_refused_however_it_is_sent(server, chunked):
    body, kind = form("file", [("large.png", bytes(LIMIT))])
    status, answer = ask(server, "POST", "/predict", body, kind, chunked)
    assert status == 413
    assert answer["detail"] == f"An upload may have at most {LIMIT} bytes. Send a smaller picture, or fewer at once."


def test_32_clients_at_once_all_get_the_right_answer_in_bounded_memory(server, place):
    before = memory(server.process)
    together = threading.Barrier(CLIENTS)

    def client(number):
        together.wait()
        for turn in range(6):
            path = place.pictures[(number + 5 * turn) % CLIENTS]
            if turn == 3:
                body, kind = form("file", [("large.png", bytes(LIMIT))])
                assert ask(server, "POST", "/predict", body, kind)[0] == 413
            status, answer = predict(server, path, padding=bytes(LIMIT * 9 // 10))
            assert status == 200
            assert answer["file"] == path.name
            check(answer, place.told[path.name])

    with ThreadPoolExecutor(CLIENTS) as clients:
        assert len([*clients.map(client, range(CLIENTS))]) == CLIENTS
    assert memory(server.process) - before < MOST_GROWTH < 6 * CLIENTS * LIMIT


@pytest.mark.slow
def test_a_model_of_several_labels_gives_them_all(place):
    model = xpcnn.load(place.folder / "model.safetensors")
    model.thresholds = (0.0, 1.0, 0.0)
    (place.folder / "several").mkdir()
    model.save(place.folder / "several" / "model.safetensors")
    server = start(SimpleNamespace(folder=place.folder / "several"))
    try:
        status, answer = predict(server, place.pictures[0])
        assert (status, set(answer["labels"])) == (200, {"left", "none"})
        assert [*answer] == ["file", "labels", "probabilities"]
    finally:
        server.process.kill()
        server.process.wait()


@pytest.mark.slow
def test_one_upload_too_many_is_asked_to_try_again(place):
    server = start(place, "--most-at-once", 1)
    try:
        body, kind = form("file", [(place.pictures[0].name, place.pictures[0].read_bytes())])
        slow = HTTPConnection("127.0.0.1", server.port, timeout=60)
        slow.putrequest("POST", "/predict")
        for header, value in (("Content-Type", kind), ("Content-Length", len(body))):
            slow.putheader(header, value)
        slow.endheaders(body[:10])
        wait_for(lambda: predict(server, place.pictures[1])[0] == 503)
        status, answer = predict(server, place.pictures[1])
        assert (status, answer["detail"]) == (503, "1 uploads are being answered already. Try again in a second.")
        assert ask(server, "GET", "/health")[0] == 200
        slow.send(body[10:])
        check(json.loads(slow.getresponse().read()), place.told["00.png"])
        assert predict(server, place.pictures[1])[0] == 200
    finally:
        server.process.kill()
        server.process.wait()


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="a process is ended otherwise on Windows")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_asked_to_and_answers_first(place, number):
    server = start(place)
    with ThreadPoolExecutor(8) as clients:
        asked = [clients.submit(predict, server, path, *place.pictures, batch=True) for path in place.pictures[:8]]
        wait_for(lambda: any(one.done() for one in asked))
        server.process.send_signal(number)
        assert server.process.wait(20) in (0, -number)
        server.reader.join(10)
        answered = [one.result() for one in asked if one.exception() is None]
    assert answered
    assert all(status == 200 for status, _ in answered)
    output = "".join(server.output)
    assert "Traceback" not in output
    assert "Finished server process" in output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "line"),
    [(["nothing.safetensors"], "service: There is no model file 'nothing.safetensors'"), ([SERVICE], "service: ")],
)
def test_a_model_that_cannot_be_served_is_reported_in_one_line(arguments, line):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "XPCNN_BACKEND": "numpy"}
    done = subprocess.run([sys.executable, SERVICE, *arguments], capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert re.fullmatch(rf"{re.escape(line)}.+\n", done.stderr)


def test_a_missing_package_is_reported_in_one_line(tmp_path):
    (tmp_path / "fastapi.py").write_text("raise ImportError(\"No module named 'fastapi'\")")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run([sys.executable, SERVICE, "m"], capture_output=True, text=True, env=environment)
    assert done.stderr == "service: No module named 'fastapi'. Run: pip install fastapi uvicorn python-multipart\n"
