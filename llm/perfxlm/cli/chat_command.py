"""Talk with a model in the terminal.

/clear starts a new conversation, /exit or the end of input leaves; Ctrl-C ends an answer early.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from perfxapi.errors import PerfXError
from perfxlm.cli.common import add_model_arguments, add_sampling_arguments, open_llm, sampling_params

if TYPE_CHECKING:
    from perfxlm.llm import LLM
    from perfxlm.sampling_params import SamplingParams

Conversation = list[dict[str, str]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `perfxlm chat`."""
    add_model_arguments(parser)
    parser.add_argument("--system", metavar="TEXT", help="what the model is told before the conversation")
    add_sampling_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs `perfxlm chat`."""
    llm = open_llm(arguments)
    params = sampling_params(arguments, llm, max_tokens=arguments.max_tokens or 512)
    opening: Conversation = [{"role": "system", "content": arguments.system}] if arguments.system else []
    conversation = list(opening)
    prompt = "> " if sys.stdin.isatty() else ""
    while True:
        try:
            message = input(prompt).strip()
        except (EOFError, KeyboardInterrupt):
            print()
            return 0
        if message == "/exit":
            return 0
        if message == "/clear":
            conversation = list(opening)
        elif message.startswith("/"):
            print("commands: /clear, /exit", file=sys.stderr)
        elif message:
            _answer(llm, params, conversation, message)


def _answer(llm: LLM, params: SamplingParams, conversation: Conversation, message: str) -> None:
    """Prints the answer to a message and adds both to the conversation, unless it cannot be answered."""
    conversation.append({"role": "user", "content": message})
    text = ""
    try:
        rendered = llm.render_chat(conversation, add_generation_prompt=True)
        for output in llm.stream(rendered, params):
            print(output.outputs[0].text, end="", flush=True)
            text += output.outputs[0].text
    except KeyboardInterrupt:
        pass
    except PerfXError as error:
        print(f"{error}\n/clear starts a new conversation", file=sys.stderr)
        conversation.pop()
        return
    print()
    conversation.append({"role": "assistant", "content": text})
