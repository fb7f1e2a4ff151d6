"""What a caller sees of a request: its n sequences as text, whole or in pieces."""

from __future__ import annotations

import time
from collections.abc import Sequence

from perfxlm.engine.request import FinishReason, Request
from perfxlm.outputs import CompletionOutput, RequestMetrics, RequestOutput
from perfxlm.sampling_params import RequestOutputKind
from perfxlm.tokenizer import IncrementalDetokenizer, Tokenizer
from perfxlm.tokenizer.detokenize import StopStrings


class LateStopStrings(StopStrings):
    """Stop strings that count only once a request has more than its `min_tokens`."""

    def __init__(self, request: Request) -> None:
        super().__init__(request.params.stop or ())
        self._request = request

    def match(self, state: int) -> str | None:
        """The stop string that ends in this state, if it counts yet."""
        return super().match(state) if self._request.num_output_tokens > self._request.min_tokens else None


class Completion:
    """One sequence and its text.

    Text is made token by token only where someone reads it, or looks for stop strings in it.
    """

    def __init__(self, request: Request, tokenizer: Tokenizer | None) -> None:
        params = request.params
        self.request = request
        self.text = ""
        self._detokenizer: IncrementalDetokenizer | None = None
        if tokenizer is not None and params.detokenize:
            self._detokenizer = IncrementalDetokenizer(
                tokenizer,
                LateStopStrings(request) if params.min_tokens else params.stop or (),
                include_stop_str_in_output=params.include_stop_str_in_output,
                skip_special_tokens=params.skip_special_tokens,
            )
        self._is_eager = bool(params.stop) or params.output_kind is not RequestOutputKind.FINAL_ONLY
        self._num_decoded = self._num_shown_tokens = self._num_shown_characters = 0
        self._cumulative_logprob = 0.0

    def take_token(self, token_id: int) -> None:
        """A token was sampled: the request grows by it, and may end."""
        request = self.request
        request.append_token(token_id)
        if request.sampler is not None:
            request.sampler.observe(token_id)
            if request.logprobs is not None:
                self._cumulative_logprob += float(request.logprobs[-1].logprobs[0])
        if self._detokenizer is not None and (self._is_eager or request.is_finished):
            self._decode(self._detokenizer)

    def _decode(self, detokenizer: IncrementalDetokenizer) -> None:
        request = self.request
        token_ids = request.output_token_ids[self._num_decoded :].tolist()
        self._num_decoded = request.num_output_tokens
        if request.finish_reason is FinishReason.STOP and not request.params.include_stop_str_in_output:
            token_ids.pop()
        self.text += detokenizer.append(token_ids)
        if detokenizer.stop_string is not None:
            request.finish(FinishReason.STOP, detokenizer.stop_string)
        if request.is_finished:
            self.text += detokenizer.finish()

    def output(self, kind: RequestOutputKind) -> CompletionOutput:
        """The sequence so far, or what is new of it since the last call (`DELTA`)."""
        request = self.request
        first_token, first_character = 0, 0
        if kind is RequestOutputKind.DELTA:
            first_token, first_character = self._num_shown_tokens, self._num_shown_characters
        self._num_shown_tokens, self._num_shown_characters = request.num_output_tokens, len(self.text)
        return CompletionOutput(
            index=request.index,
            text=self.text[first_character:],
            token_ids=request.output_token_ids[first_token:].tolist(),
            cumulative_logprob=None if request.logprobs is None else self._cumulative_logprob,
            logprobs=None if request.logprobs is None else request.logprobs[first_token:],
            finish_reason=None if request.finish_reason is None else request.finish_reason.value,
            stop_reason=request.stop_reason,
        )


class RequestGroup:
    """One call's request: the prompt and its n sequences."""

    def __init__(
        self, request_id: str, prompt: str | None, prompt_token_ids: list[int], completions: Sequence[Completion]
    ) -> None:
        self.request_id, self.prompt, self.prompt_token_ids = request_id, prompt, prompt_token_ids
        self.completions = list(completions)
        self.output_kind = completions[0].request.params.output_kind
        self.is_streamed = self.output_kind is not RequestOutputKind.FINAL_ONLY
        self.metrics = RequestMetrics(arrival_time=time.time(), queued_ts=time.monotonic())

    @property
    def is_finished(self) -> bool:
        """Whether all sequences have ended."""
        return all(completion.request.is_finished for completion in self.completions)

    @property
    def has_output(self) -> bool:
        """Whether its caller wants to see it after this step."""
        return self.is_streamed or self.is_finished

    def output(self, changed: Sequence[Completion] | None = None) -> RequestOutput:
        """All sequences; of a `DELTA` stream those that `changed`."""
        kind = self.output_kind
        shown = changed if changed is not None and kind is RequestOutputKind.DELTA else self.completions
        requests = [completion.request for completion in self.completions]
        self.metrics.num_preemptions = sum(request.num_preemptions for request in requests)
        return RequestOutput(
            request_id=self.request_id,
            prompt=self.prompt,
            prompt_token_ids=self.prompt_token_ids,
            prompt_logprobs=requests[0].prompt_logprobs,
            outputs=[completion.output(kind) for completion in shown],
            finished=self.is_finished,
            metrics=self.metrics,
        )
