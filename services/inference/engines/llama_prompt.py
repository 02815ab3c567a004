"""Messages to a prompt of the model, through its own chat template.

The template marks turns with special tokens, which have a spelling such as `<|im_end|>`. A user who writes that must
not be able to end their turn and speak as the system, so such a text goes in as plain tokens.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from services.inference.engines.llama_server import LlamaServer
from services.inference.engines.llama_tools import in_words, openai_message, openai_tools
from services.inference.engines.tool_calls import refused_parameters
from services.inference.model import GeneratedPiece, Message, Role, TokenCounts, Tool, ToolCall, ToolOptions
from services.runtime.errors import DomainError, FieldViolation, Reason

_SEPARATOR = -1
"""No token has this id; it comes back from the tokenizer where it was put in."""

_LIKE_A_SPECIAL_TOKEN = re.compile(r"<[^<>\s]{1,64}>|\[[A-Z_/]{2,32}\]")

_SHAPES = ("u", "su", "uau", "suau", "suauau")
"""Sequences of system, user and assistant messages that the cost of the template is measured on."""

_TOOL_CHAT = (
    Message(Role.USER, "x"),
    Message(Role.ASSISTANT, "", tool_calls=(ToolCall("call12345", "probe_one", '{"probe_two": 1}'),)),
    Message(Role.TOOL, "probe_three", tool_call_id="call12345", name="probe_one"),
)
_TOOL = Tool("probe_four", "probe_five")
_PROBES = ("probe_one", "probe_two", "probe_three", "probe_four", "probe_five")
"""What a template that knows tools shows of them."""

_BREAK = "\u200b"
"""Within the spelling of a special token, it makes plain text of it. Nobody sees it."""

Prompt = str | list[str | int]
"""As /completion takes it: text in which special tokens count, and between it ids."""


class LlamaPrompt:
    """The template and the tokenizer of a loaded model."""

    def __init__(self, *, model: str, server: LlamaServer) -> None:
        self._model = model
        self._server = server
        self._per_message = 0
        self._per_prompt = 0
        self.knows_tools = False
        """Whether the template shows tools, calls and what came of them."""

    async def measure(self) -> None:
        """Find out what the template adds. Call once before `count`."""
        added: dict[str, int] = {}
        for shape in _SHAPES:
            roles = {"s": "system", "u": "user", "a": "assistant"}
            prompt = await self._template([{"role": roles[letter], "content": "x"} for letter in shape])
            tokens = (await self._tokenize([prompt, "x"], special=True))[:2]
            added[shape] = len(tokens[0]) - len(shape) * len(tokens[1])
        # One more than measured: a text's last token may join the template's next one differently for other texts.
        self._per_message = max(-(-(added["suau"] - added["su"]) // 2), -(-(added["uau"] - added["u"]) // 2)) + 1
        self._per_prompt = max(0, *(total - len(shape) * self._per_message for shape, total in added.items())) + 1
        shown = await self._try_template(
            [openai_message(message) for message in _TOOL_CHAT], ToolOptions(tools=(_TOOL,))
        )
        self.knows_tools = shown is not None and all(probe in shown for probe in _PROBES)

    async def count(self, texts: Sequence[str]) -> TokenCounts:
        """Tokens of each text."""
        counts = tuple(len(ids) for ids in await self._tokenize(texts, special=False)) if texts else ()
        return TokenCounts(counts=counts, tokens_per_message=self._per_message, tokens_per_prompt=self._per_prompt)

    async def plain_tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of texts, in which nothing is special."""
        return await self._tokenize(texts, special=False)

    async def surrounding_tokens(self) -> list[int]:
        """What the model's tokenizer puts around a text."""
        reply = await self._server.call("/tokenize", {"content": "", "add_special": True})
        return list(reply.body["tokens"]) if reply.ok else []

    async def special_tokens(self) -> list[int]:
        """Tokens that mark turns, in the order of a chat."""
        prompt = await self._template([{"role": "user", "content": "x"}])
        plain = (await self._tokenize([prompt], special=False))[0]
        special = (await self._tokenize([prompt], special=True))[0]
        return list(dict.fromkeys(token for token in special if token not in plain))

    async def tokens_of(self, pieces: Sequence[GeneratedPiece]) -> list[int]:
        """The tokens of what was written before: those that are known, and those that its text would be.

        The text is the model's own, but it may have copied there what a user made up: nothing in it is special.
        """
        # Neighbours whose ids are unknown are one text: a word must not be cut into other tokens at their border.
        runs: list[str | tuple[int, ...]] = []
        for piece in pieces:
            if piece.token_ids:
                runs.append(piece.token_ids)
            elif runs and isinstance(runs[-1], str):
                runs[-1] += piece.text
            else:
                runs.append(piece.text)
        texts = [run for run in runs if isinstance(run, str)]
        tokenized = iter(await self._tokenize(texts, special=False) if texts else ())
        return [token for run in runs for token in (next(tokenized) if isinstance(run, str) else run)]

    async def build(self, messages: Sequence[Message], tools: ToolOptions | None = None) -> Prompt:
        """The prompt of a chat. A last message of the assistant is left open, to be continued.

        Raises:
            DomainError: INVALID_FIELD when the template refuses the messages, or a tool has no schema.
        """
        if self.knows_tools:
            messages, tools = await self._with_harmless_calls(messages), await self._harmless_tools(tools)
        elif tools is not None or any(message.tool_calls or message.role is Role.TOOL for message in messages):
            messages, tools = in_words(messages, tools), None
        plain = await self._plain_tokens([message.content for message in messages])
        if not plain:
            return await self._template([openai_message(message) for message in messages], tools)
        mark = f"content{secrets.token_hex(12)}x"
        prompt = await self._template(
            [
                openai_message(replace(message, content=f"{mark}{at}e") if at in plain else message)
                for at, message in enumerate(messages)
            ],
            tools,
        )
        parts: list[str | int] = []
        for place, part in enumerate(re.split(f"{mark}([0-9]+)e", prompt)):
            if place % 2:
                parts.extend(plain[int(part)])
            elif part:
                parts.append(part)
        return parts

    async def harmless(
        self, messages: Sequence[Message], tools: ToolOptions
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Messages and tools for where llama.cpp itself makes the prompt, with no special token in them."""
        texts = await self._harmless([message.content for message in messages])
        called = await self._with_harmless_calls(messages)
        safe = await self._harmless_tools(tools)
        return (
            [openai_message(replace(message, content=text)) for message, text in zip(called, texts, strict=True)],
            openai_tools(safe or tools),
        )

    async def _with_harmless_calls(self, messages: Sequence[Message]) -> list[Message]:
        arguments = iter(await self._harmless([call.arguments for message in messages for call in message.tool_calls]))
        return [
            replace(message, tool_calls=tuple(replace(call, arguments=next(arguments)) for call in message.tool_calls))
            if message.tool_calls
            else message
            for message in messages
        ]

    async def _harmless_tools(self, tools: ToolOptions | None) -> ToolOptions | None:
        if tools is None:
            return None
        texts = await self._harmless([text for tool in tools.tools for text in (tool.description, tool.parameters)])
        pairs = zip(texts[::2], texts[1::2], strict=True)
        return replace(
            tools,
            tools=tuple(
                replace(tool, description=description, parameters=parameters)
                for tool, (description, parameters) in zip(tools.tools, pairs, strict=True)
            ),
        )

    async def _harmless(self, texts: Sequence[str]) -> list[str]:
        spelled = await self._plain_tokens(texts)
        return [
            _LIKE_A_SPECIAL_TOKEN.sub(lambda found: found[0][0] + _BREAK + found[0][1:], text)
            if at in spelled
            else text
            for at, text in enumerate(texts)
        ]

    async def _plain_tokens(self, texts: Sequence[str]) -> dict[int, list[int]]:
        """Token ids of those texts that spell a special token, by their place."""
        suspects = [at for at, text in enumerate(texts) if _LIKE_A_SPECIAL_TOKEN.search(text)]
        if not suspects:
            return {}
        content = [texts[at] for at in suspects]
        plain = await self._tokenize(content, special=False)
        special = await self._tokenize(content, special=True)
        return {at: ids for at, ids, other in zip(suspects, plain, special, strict=True) if ids != other}

    async def _template(self, messages: list[dict[str, Any]], tools: ToolOptions | None = None) -> str:
        prompt = await self._try_template(messages, tools)
        if prompt is None and tools is not None and await self._try_template(messages, None) is not None:
            raise refused_parameters()
        if prompt is None:
            raise DomainError(
                Reason.INVALID_FIELD,
                f"The chat template of {self._model} does not take this sequence of messages.",
                fields=[FieldViolation("messages", "a sequence of roles that the model's template refuses")],
            )
        return prompt

    async def _try_template(self, messages: list[dict[str, Any]], tools: ToolOptions | None) -> str | None:
        body: dict[str, Any] = {"messages": messages}
        if tools is not None:
            body["tools"] = openai_tools(tools)
        reply = await self._server.call("/apply-template", body)
        return str(reply.body["prompt"]) if reply.ok else None

    async def _tokenize(self, texts: Sequence[str], *, special: bool) -> list[list[int]]:
        content: list[Any] = [_SEPARATOR]
        for text in texts:
            content += [text, _SEPARATOR]
        reply = await self._server.call("/tokenize", {"content": content, "parse_special": special})
        if not reply.ok:
            raise DomainError(
                Reason.ENGINE_FAILED, f"The tokenizer of {self._model} failed.", metadata={"model": self._model}
            )
        tokenized: list[list[int]] = []
        for token in reply.body["tokens"][1:]:
            if not tokenized:
                tokenized.append([])
            if token == _SEPARATOR:
                tokenized.append([])
            else:
                tokenized[-1].append(token)
        return tokenized[: len(texts)] if tokenized else [[] for _ in texts]
