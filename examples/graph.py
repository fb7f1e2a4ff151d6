"""A function on the op API, traced once with a symbolic size, fused, planned, and run for any number of tokens."""

from __future__ import annotations

import numpy as np

import perfxapi as px

rng = np.random.default_rng(0)
norm = px.constant(np.ones(64, np.float32), px.float32, (64,))
gate, up, down = (
    px.constant(rng.standard_normal(shape).astype(np.float32) / 8, px.float32, shape)
    for shape in ((256, 64), (256, 64), (64, 256))
)


def feed_forward(x: px.Array) -> px.Array:
    """x [tokens, 64] + down(silu(gate(norm(x))) * up(norm(x)))."""
    normed = px.nn.rms_norm(x, norm, eps=1e-6)
    gated = px.nn.gated_activation(
        px.nn.linear(normed, gate, activation_format="float32"),
        px.nn.linear(normed, up, activation_format="float32"),
        activation="silu",
    )
    return x + px.nn.linear(gated, down, activation_format="float32")


graph = px.graph.trace(feed_forward, {"x": px.TensorSpec((px.Dim("num_tokens"), 64), px.float32)})
run = px.graph.compile(graph, bounds={"num_tokens": 128})
for num_tokens in (1, 7, 128):
    x = rng.standard_normal((num_tokens, 64)).astype(np.float32)
    print(num_tokens, np.asarray(run(x=x)["output"]).shape)
for place in run.explain():
    print(place.device, place.node)
