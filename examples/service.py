"""Serve a model over HTTP with FastAPI: POST a picture to /predict, several to /predict-batch, GET /health.

    pip install fastapi uvicorn python-multipart
    python examples/service.py runs/cells/best.safetensors
    curl -F file=@cell.jpg http://127.0.0.1:8000/predict

It has neither TLS nor a login, so it listens on this machine alone: put a proxy before it to offer it to others.
"""

import argparse
import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import xpcnn

try:
    import uvicorn
    from fastapi import FastAPI, HTTPException, UploadFile
    from fastapi.responses import JSONResponse
except ImportError as error:
    sys.exit(f"service: {error}. Run: pip install fastapi uvicorn python-multipart")


class Admission:
    """Refuses a POST that is too large, or one too many at once: memory is bounded by the product of the two."""

    def __init__(self, app, most_bytes, most_at_once):
        self.app, self.most_bytes, self.most_at_once = app, most_bytes, most_at_once
        self.inside = 0

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or scope["method"] != "POST":
            return await self.app(scope, receive, send)
        too_large = f"An upload may have at most {self.most_bytes} bytes. Send a smaller picture, or fewer at once."
        received = int(dict(scope["headers"]).get(b"content-length", 0))  # 0: sent in chunks, counted below
        if received > self.most_bytes:
            return await JSONResponse({"detail": too_large}, 413)(scope, receive, send)
        if self.inside >= self.most_at_once:
            busy = f"{self.inside} uploads are being answered already. Try again in a second."
            return await JSONResponse({"detail": busy}, 503, {"Retry-After": "1"})(scope, receive, send)
        left = self.most_bytes

        async def receive_within():
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(413, too_large)
            return message

        self.inside += 1
        try:
            await self.app(scope, receive_within, send)
        finally:
            self.inside -= 1


def service(model, threads, most_bytes, most_at_once):
    """Return the application for a model, which is shared by all requests: prediction changes nothing in it."""
    names = model.class_names
    pool = ThreadPoolExecutor(threads)  # requests wait for a thread in its queue, at most `most_at_once` of them

    @asynccontextmanager
    async def lifespan(app):
        yield
        pool.shutdown()

    app = FastAPI(title="xpcnn", version=xpcnn.__version__, lifespan=lifespan)
    app.add_middleware(Admission, most_bytes=most_bytes, most_at_once=most_at_once)

    async def answers(files):
        pictures = [await file.read() for file in files]
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(pool, lambda: model.predict_images(pictures, threads=1))
        return [
            {"file": file.filename, "error": error}
            if error
            else {
                "file": file.filename,
                **({"label": label, "probability": float(row.max())} if isinstance(label, str) else {"labels": label}),
                "probabilities": dict(zip(names or map(str, range(len(row))), row.tolist(), strict=True)),
            }
            for file, label, row, error in zip(files, found.labels, found.probabilities, found.errors, strict=True)
        ]

    @app.get("/health")
    async def health():
        return {"status": "ok", "classes": names}

    @app.post("/predict")
    async def predict(file: UploadFile):
        """The label and the probabilities of one picture; 422 for a file that is no readable picture."""
        (answer,) = await answers([file])
        if "error" in answer:
            raise HTTPException(422, f"{file.filename}: {answer['error']}")
        return answer

    @app.post("/predict-batch")
    async def predict_batch(files: list[UploadFile]):
        """The same for several pictures, in their order; one that cannot be read has an error in place of a label."""
        return await answers(files)

    return app


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a model file, such as runs/cells/best.safetensors")
    parser.add_argument("--host", default="127.0.0.1", help="(default: %(default)s, this machine alone)")
    parser.add_argument("--port", type=int, default=8000, help="(default: %(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="how many requests to compute at once")
    parser.add_argument("--most-bytes", type=int, default=20_000_000, help="of one upload (default: %(default)s)")
    parser.add_argument("--most-at-once", type=int, default=64, help="uploads to hold (default: %(default)s)")
    options = parser.parse_args()
    try:
        model = xpcnn.load(options.model)
        model.predict_images([])  # an error for a model that takes no pictures
    except (OSError, ValueError, ImportError) as error:
        sys.exit(f"service: {error}")
    app = service(model, options.threads, options.most_bytes, options.most_at_once)
    uvicorn.run(app, host=options.host, port=options.port)


if __name__ == "__main__":
    main()
