"""The inputs of one step: the tokens of all scheduled requests, end to end, and where their keys and values live."""

from __future__ import annotations

from dataclasses import dataclass, fields

import perfxapi as px


@dataclass(frozen=True, slots=True)
class Batch:
    """int32 arrays; prompts in chunks, single decoded tokens and any mixture of them have the same form.

    - `tokens` [num_tokens]: token ids, request after request; `positions` [num_tokens]: places in their sequences.
    - `slot_mapping` [num_tokens]: the KV slot (block * block_size + offset) that each token fills; -1 for padding.
    - `query_start` [num_requests + 1]: where each request's tokens begin; `kv_len` [num_requests]: its new length.
    - `block_table` [num_requests, max_blocks]: the KV blocks of each request in order.
    - `output_rows` [num_outputs]: the rows of `tokens` whose logits are wanted.
    """

    tokens: px.Array
    positions: px.Array
    slot_mapping: px.Array
    query_start: px.Array
    kv_len: px.Array
    block_table: px.Array
    output_rows: px.Array

    @classmethod
    def input_specs(cls, max_blocks: int) -> dict[str, px.TensorSpec]:
        """Shapes for tracing, by field. `max_blocks` is the number of KV blocks of the longest request."""
        tokens, requests = px.Dim("num_tokens"), px.Dim("num_requests")
        shapes = {
            "query_start": (px.Dim("num_requests_plus_one"),),
            "kv_len": (requests,),
            "block_table": (requests, max_blocks),
            "output_rows": (px.Dim("num_outputs"),),
        }
        return {field.name: px.TensorSpec(shapes.get(field.name, (tokens,)), px.int32) for field in fields(cls)}
