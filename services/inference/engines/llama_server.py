"""llama.cpp inside this process, reached over a Unix socket.

Of the ways into xllamacpp this is the one that gives token ids, ends the work when the caller goes away, and blocks no
thread per generation. The socket lies in a folder that only this user may enter and wants a key that only this process
knows; there is no TCP port.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.inference.engines.http_exchange import EventCallback, HttpExchange, Reply, get, post
from services.runtime.settings import SettingsError

SAMPLER_OPTIONS = ("temperature", "top_p", "top_k", "min_p", "repeat_penalty")
"""Options that are passed on to the sampler under the same name."""

# llama.cpp takes an address for a Unix socket when it ends like this.
_SOCKET = "s.sock"
_SOCKET_PATH_BYTES = 100
"""Linux takes 107, other systems fewer."""

_SPARE_HTTP_THREADS = 4
"""Beside one per slot, for tokenizing and for connections that were given up but not yet noticed."""


class LlamaOptions(BaseModel):
    """`engine_options` of a llama_cpp model."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    threads: int = Field(0, ge=0, description="compute threads; 0 takes one fewer than there are cores")
    batch_tokens: int = Field(
        64, ge=1, description="prompt tokens per step: more delays running answers and cancels, on a CPU for no gain"
    )
    gpu_layers: int = Field(-1, ge=-1, description="layers on the GPU where the wheel has one; -1 as many as fit")
    cache_ram_mib: int = Field(256, ge=0, description="memory for prompts whose slot was taken by another")
    chat_template: str = Field(
        "", description="file of a Jinja template in place of the model's own, for instance one that knows tools"
    )
    temperature: float | None = Field(None, ge=0, le=2, description="default when a request names none")
    top_p: float | None = Field(None, ge=0, le=1, description="default when a request names none")
    top_k: int | None = Field(None, ge=0, description="0 turns it off")
    min_p: float | None = Field(None, ge=0, le=1, description="0 turns it off")
    repeat_penalty: float | None = Field(None, gt=0, description="1 turns it off")
    embeddings: bool = Field(False, description="the model turns texts into vectors, and writes none")
    pooling: Literal["model", "mean", "cls", "last"] = Field(
        "model", description="how the vectors of tokens become that of a text; model takes what the file says"
    )
    grammars: bool = Field(
        False,
        description="takes grammars from callers. llama.cpp can be kept busy for hours by an ambiguous one, and all "
        "answers of the replica with it: only for callers that are trusted. JSON Schemas are always taken",
    )


def compute_threads(wanted: int) -> int:
    """With a thread on every core, one busy neighbour makes the barriers between them many times slower."""
    return wanted or max(1, len(os.sched_getaffinity(0)) - 1)


class LlamaServer:
    """The loaded model. `start` first."""

    def __init__(self, *, model: str, file: Path, context_length: int, slots: int, options: LlamaOptions) -> None:
        self._model = model
        self._file = file
        self._context_length = context_length
        self._slots = slots
        self._options = options
        self._api_key = secrets.token_urlsafe(32)
        self._folder: Path | None = None
        self._server: Any = None
        self._exchanges: set[HttpExchange] = set()

    async def start(self) -> None:
        """Load the model. The process does nothing else meanwhile: the loader holds Python's global lock.

        Raises:
            SettingsError: the wheel is missing, or the file is not a model that it can load.
        """
        try:
            # A hundred megabytes that only this engine needs.
            import xllamacpp
        except ImportError as error:
            raise SettingsError(
                f"model {self._model}: engine llama_cpp needs the package xllamacpp; install it with "
                "`pip install xllamacpp`, or leave the model out with CHATMESH_INFERENCE_MODELS"
            ) from error
        template = self._template()
        self._folder = Path(tempfile.mkdtemp(prefix="llama-"))
        socket = str(self._folder / _SOCKET)
        if len(os.fsencode(socket)) > _SOCKET_PATH_BYTES:
            self._remove_folder()
            raise SettingsError(
                f"the path of a Unix socket must be short and {socket} is not; set TMPDIR to a short path"
            )
        params = xllamacpp.CommonParams()
        params.model.path = str(self._file)
        params.n_ctx = self._context_length * self._slots
        params.n_parallel = self._slots
        params.n_batch = max(self._options.batch_tokens, self._slots)
        params.n_ubatch = params.n_batch
        params.n_gpu_layers = self._options.gpu_layers
        params.cpuparams.n_threads = compute_threads(self._options.threads)
        params.cpuparams_batch.n_threads = params.cpuparams.n_threads
        params.n_threads_http = self._slots + _SPARE_HTTP_THREADS
        params.cache_ram_mib = self._options.cache_ram_mib
        if self._options.embeddings:
            params.embedding = True
            # A text is computed in one step. Without the shared cache llama.cpp would cut texts of different lengths
            # into steps of the same length, and take the mean of a text's last step for that of the text.
            params.n_batch = params.n_ubatch = self._context_length
            params.kv_unified = True
            if self._options.pooling != "model":
                kind = f"LLAMA_POOLING_TYPE_{self._options.pooling.upper()}"
                params.pooling_type = getattr(xllamacpp.llama_pooling_type, kind)
        if template:
            params.chat_template = template
        params.hostnames = [socket]
        params.api_keys = [self._api_key]
        params.ui = False
        params.endpoint_slots = False
        # Its log quotes prompts.
        params.verbosity = 0
        try:
            self._server = await asyncio.to_thread(xllamacpp.Server, params)
        except (RuntimeError, ValueError, OSError) as error:
            self._remove_folder()
            raise SettingsError(
                f"model {self._model}: llama.cpp cannot load {self._file.name}; is it a whole GGUF file of a kind "
                "that this version of xllamacpp knows?"
            ) from error

    async def vocabulary_size(self) -> int:
        """Number of tokens that the model has."""
        reply = await self._reply(get("/v1/models", api_key=self._api_key))
        return int(reply.body["data"][0]["meta"]["n_vocab"])

    async def call(self, path: str, body: object) -> Reply:
        """Send a request and wait for its JSON answer."""
        return await self._reply(post(path, body, api_key=self._api_key))

    async def _reply(self, request: bytes) -> Reply:
        exchange = HttpExchange(request)
        try:
            await self._connect(exchange)
            return await exchange.reply
        finally:
            exchange.close()

    async def stream(self, path: str, body: object, on_event: EventCallback) -> Reply:
        """Send a request whose answer comes as events, and wait for its end. Cancelling ends the work."""
        exchange = HttpExchange(post(path, body, api_key=self._api_key), on_event=on_event)
        try:
            await self._connect(exchange)
            return await exchange.reply
        finally:
            exchange.close()

    async def close(self) -> None:
        """Unload the model."""
        for exchange in list(self._exchanges):
            exchange.close()
        # Its destructor stops the server's threads.
        self._server = None
        self._remove_folder()

    async def _connect(self, exchange: HttpExchange) -> None:
        if self._server is None or self._folder is None:
            exchange.close()
            return
        self._exchanges.add(exchange)
        exchange.reply.add_done_callback(lambda _: self._exchanges.discard(exchange))
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: exchange, str(self._folder / _SOCKET))
        except OSError:
            exchange.close()

    def _template(self) -> str:
        file = self._options.chat_template
        if not file:
            return ""
        try:
            return Path(file).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"model {self._model}: the chat template {file} cannot be read; correct engine_options.chat_template"
            ) from error

    def _remove_folder(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
