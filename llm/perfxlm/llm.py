"""`LLM`: generate text offline, by vLLM's names (`from perfxlm import LLM, SamplingParams`)."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NoReturn

import perfxapi as px
from perfxapi.errors import InvalidArgumentError
from perfxlm.engine.admission import Admission, ModelFacts
from perfxlm.engine.block_pool import BlockPool
from perfxlm.engine.completion import RequestGroup
from perfxlm.engine.core import EngineCore
from perfxlm.engine.metrics import Metric
from perfxlm.engine.request import PromptLogitsFn
from perfxlm.engine.runner import ModelRunner
from perfxlm.engine.scheduler import Scheduler
from perfxlm.engine_args import EngineArgs, Plan
from perfxlm.errors import UnsupportedFeatureError
from perfxlm.inputs import ParsedPrompt, PromptType, TokensPrompt, parse_prompt, parse_prompts
from perfxlm.model_packages import find_model
from perfxlm.outputs import RequestOutput
from perfxlm.progress import show_progress
from perfxlm.sampling_params import RequestOutputKind, SamplingParams
from perfxlm.tokenizer import Tokenizer, load_from_folder, load_from_gguf
from perfxlm.validation import shown
from perfxlm.weights.gguf import GGUFFile
from perfxlm.weights.loader import ModelFiles, open_model
from perfxlm.weights.metadata import Metadata

Message = Mapping[str, Any]


class LLM:
    """A model ready to generate, with its tokenizer, KV cache and scheduler. Use it from one thread.

    model: path of a GGUF file or of a folder in HuggingFace's format, or the name of a model package (`gemma3-270m`).
    device: "cpu", "opencl:1", ...; "auto" is the one in force (`perfxapi.use_device`, PERFXAPI_DEVICE), else the best.
    What happens where it cannot be had is `fallback`: "allow", "warn" or "error" (None: as set for the process). The
    other arguments are fields of `EngineArgs`, among them `device_map`, which splits a model over devices. Raises
    InvalidArgumentError naming a wrong argument, UnknownModelError, FileFormatError, ConfigError.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        device: str = "auto",
        fallback: str | None = None,
        tokenizer: str | os.PathLike[str] | None = None,
        skip_tokenizer_init: bool = False,
        chat_template: str | None = None,
        **engine_args: Any,
    ) -> None:
        args = EngineArgs.of(engine_args)
        self._num_threads = args.num_threads
        if args.num_threads is not None:
            px.set_num_threads(args.num_threads)
        if args.device_map is not None and device != "auto":
            raise InvalidArgumentError(f"device_map says where layers run; leave out device={shown(device)}")
        self._fallback, self._chat_template = fallback, chat_template
        files = open_model(find_model(model))
        self.model_path = files.path
        self.model_config = files.config
        self._generation = files.generation
        self._tokenizer = None if skip_tokenizer_init else _load_tokenizer(tokenizer or files.tokenizer_source)
        self.plan = Plan.of(args, files)
        # the rest of a model that is split is with its last layer
        self._device_name = self.plan.options.device_of(-1) or (None if device == "auto" else device)
        self.engine = self._make_engine(files)
        self.admission = Admission(self._facts(args.seed, args.max_logprobs), self._tokenizer)
        self._request_ids = itertools.count()
        self._mail: dict[str, list[RequestOutput]] = {}

    def generate(
        self,
        prompts: PromptType | Sequence[PromptType],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        use_tqdm: bool | Callable[..., Any] = True,
        lora_request: Any = None,
        priority: list[int] | None = None,
    ) -> list[RequestOutput]:
        """One output for each prompt, in order. A prompt is a string, a list of token ids, or a dict of either.

        sampling_params: one for all, or one for each (None: `get_default_sampling_params`). Nothing runs if any prompt
        or parameter is refused (InvalidArgumentError).
        """
        if lora_request is not None:
            raise UnsupportedFeatureError("lora_request: adapters are not built yet")
        if priority is not None:
            raise UnsupportedFeatureError("priority: requests are served in order of arrival")
        parsed = parse_prompts(prompts)
        groups = [
            self.admission.admit(str(next(self._request_ids)), prompt, _with_kind(params, RequestOutputKind.FINAL_ONLY))
            for prompt, params in zip(parsed, self._params_for(len(parsed), sampling_params), strict=True)
        ]
        return self._run_all(groups, bool(use_tqdm))

    def chat(
        self,
        messages: Sequence[Message] | Sequence[Sequence[Message]],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        use_tqdm: bool | Callable[..., Any] = True,
        lora_request: Any = None,
        chat_template: str | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> list[RequestOutput]:
        """Answers one conversation, or each of several. Messages have a `role` and a `content`."""
        conversations = messages if messages and not isinstance(messages[0], Mapping) else [messages]
        prompts = [
            self.render_chat(
                conversation,  # type: ignore[arg-type]
                chat_template=chat_template,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
                tools=tools,
                **(chat_template_kwargs or {}),
            )
            for conversation in conversations
        ]
        return self.generate(prompts, sampling_params, use_tqdm=use_tqdm, lora_request=lora_request)

    def stream(self, prompt: PromptType, sampling_params: SamplingParams | None = None) -> Iterator[RequestOutput]:
        """What is new of the answer to one prompt, token by token. Leaving the loop early ends the request."""
        (params,) = self._params_for(1, sampling_params)
        request_id = str(next(self._request_ids))
        params = _with_kind(params, RequestOutputKind.DELTA)
        self.engine.add(self.admission.admit(request_id, parse_prompt(prompt), params))
        try:
            finished = False
            while not finished:
                with self._device_in_use():
                    self._step()
                for output in self._mail.pop(request_id, ()):
                    finished = output.finished
                    yield output
        finally:
            self.engine.abort(request_id)
            self._mail.pop(request_id, None)

    def visit_logits(self, prompt_token_ids: Sequence[int], visit: PromptLogitsFn) -> None:
        """Calls `visit(position, logits)` until every position of the prompt was visited, in order.

        `logits` [rows, vocab_size], float32, belong to `position`, `position + 1`, ...; each row predicts the token
        after its position. The array is valid during the call only.
        """
        prompt = ParsedPrompt(None, list(prompt_token_ids))
        params = SamplingParams(temperature=0.0, max_tokens=1, detokenize=False)
        params.output_kind = RequestOutputKind.FINAL_ONLY
        self._run_all([self.admission.admit(str(next(self._request_ids)), prompt, params, visit)], False)

    def render_chat(
        self, messages: Sequence[Message], *, chat_template: str | None = None, **options: Any
    ) -> TokensPrompt:
        """The prompt that a conversation becomes by the model's chat template: its text and token ids."""
        tokenizer = self.get_tokenizer()
        chat = tokenizer.render_chat(messages, chat_template or self._chat_template, **options)
        return TokensPrompt(prompt=chat.text, prompt_token_ids=tokenizer.encode_chat(chat))

    def get_tokenizer(self) -> Tokenizer:
        """The tokenizer. Raises InvalidArgumentError where it was left out."""
        if self._tokenizer is None:
            raise InvalidArgumentError("this LLM has no tokenizer: it was made with skip_tokenizer_init=True")
        return self._tokenizer

    def get_default_sampling_params(self) -> SamplingParams:
        """What the model's authors recommend, where their files say; else the defaults."""
        given = dict(self._generation.sampling)
        params: dict[str, Any] = {name: given[name] for name in _RECOMMENDED if name in given}
        if "top_k" in params:
            params["top_k"] = int(params["top_k"])
        if "max_new_tokens" in given:
            params["max_tokens"] = int(given["max_new_tokens"])
        return SamplingParams(**params)

    @property
    def num_threads(self) -> int:
        """Threads of native code."""
        return self._num_threads or px.num_threads()

    def get_metrics(self) -> list[Metric]:
        """What the engine counted so far."""
        return self.engine.metrics.snapshot(self.engine.scheduler)

    def encode(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises UnsupportedFeatureError: pooling models are not built yet."""
        _not_built("encode")

    def embed(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises UnsupportedFeatureError: pooling models are not built yet."""
        _not_built("embed")

    def classify(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises UnsupportedFeatureError: pooling models are not built yet."""
        _not_built("classify")

    def score(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises UnsupportedFeatureError: pooling models are not built yet."""
        _not_built("score")

    def sleep(self, level: int = 1) -> NoReturn:
        """Raises UnsupportedFeatureError: giving memory back between requests is not built yet."""
        raise UnsupportedFeatureError("sleep is not built yet; delete the LLM to give its memory back")

    def wake_up(self, tags: list[str] | None = None) -> NoReturn:
        """Raises UnsupportedFeatureError: see `sleep`."""
        raise UnsupportedFeatureError("wake_up is not built yet, since sleep is not")

    def beam_search(self, prompts: Any, params: Any) -> NoReturn:
        """Raises UnsupportedFeatureError: beam search is not built yet."""
        raise UnsupportedFeatureError("beam_search is not built yet; SamplingParams(n=...) gives several samples")

    def _run_all(self, groups: Sequence[RequestGroup], is_shown: bool) -> list[RequestOutput]:
        finished: dict[str, RequestOutput] = {}
        wanted = {group.request_id for group in groups}
        for group in groups:
            self.engine.add(group)
        try:
            with self._device_in_use(), show_progress(len(groups), is_shown) as advance:
                while len(finished) < len(groups):
                    self._step()
                    for request_id in wanted & self._mail.keys():
                        (finished[request_id],) = self._mail.pop(request_id)
                        advance(finished[request_id])
        finally:
            for group in groups:
                self.engine.abort(group.request_id)
        return [finished[group.request_id] for group in groups]

    def _step(self) -> None:
        """One step of the engine; what came of it is kept for whoever asked, who may be a stream that is paused."""
        for output in self.engine.step():
            self._mail.setdefault(output.request_id, []).append(output)

    def _device_in_use(self) -> AbstractContextManager[px.Device]:
        return px.use_device(self._device_name, fallback=self._fallback)  # type: ignore[arg-type]

    def _params_for(
        self, count: int, params: SamplingParams | Sequence[SamplingParams] | None
    ) -> Sequence[SamplingParams]:
        if params is None or isinstance(params, SamplingParams):
            return [params or self.get_default_sampling_params()] * count
        if not isinstance(params, Sequence) or len(params) != count:
            raise InvalidArgumentError(f"sampling_params must be one for all or one for each of {count} prompts")
        return params

    def _make_engine(self, files: ModelFiles) -> EngineCore:
        plan = self.plan
        opened: list[ModelFiles] = [files]

        def make_runner() -> ModelRunner:
            with self._device_in_use() as device:
                # after a lost device, weights are read again from their file
                model = (opened.pop() if opened else open_model(self.model_path)).build(plan.options)
                runner = ModelRunner(
                    model,
                    plan.limits,
                    num_blocks=plan.num_blocks,
                    block_size=plan.block_size,
                    device=device,
                    is_automatic=px.requested_device() == "auto",
                )
                runner.prepare()
                return runner

        return EngineCore(Scheduler(BlockPool(plan.num_blocks, plan.block_size), plan.limits), make_runner)

    def _facts(self, seed: int, max_logprobs: int) -> ModelFacts:
        tokenizer, ends = self._tokenizer, self._generation.eos_token_ids
        eos = tokenizer.eos_token_id if tokenizer is not None else next(iter(ends), None)
        known: Iterable[int] = tokenizer.eos_token_ids if tokenizer is not None else ()
        return ModelFacts(
            vocab_size=self.model_config.vocab_size,
            max_model_len=self.plan.limits.max_model_len,
            max_blocks=-(-self.plan.limits.max_model_len // self.plan.block_size),
            eos_token_id=eos,
            end_token_ids=sorted({*ends, *known} - {eos}),
            seed=seed,
            max_logprobs=max_logprobs,
        )


_RECOMMENDED = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")


def _with_kind(params: SamplingParams, kind: RequestOutputKind) -> SamplingParams:
    if not isinstance(params, SamplingParams):
        raise InvalidArgumentError(f"sampling_params must be SamplingParams; got {shown(params)}")
    params = params.clone()
    params.output_kind = kind
    return params


def _load_tokenizer(source: str | os.PathLike[str] | Metadata) -> Tokenizer:
    if isinstance(source, Metadata):
        return load_from_gguf(source)
    return load_from_folder(source) if Path(source).is_dir() else load_from_gguf(GGUFFile.open(source))


def _not_built(method: str) -> NoReturn:
    raise UnsupportedFeatureError(
        f"LLM.{method}: pooling models (embeddings, classification, scoring) are not built yet"
    )
