"""Encoded images, decoded by Pillow."""

from __future__ import annotations

from io import BytesIO

import numpy as np

from perfxapi.errors import PluginError
from perfxapi.onnx.operators.choices import choice
from perfxapi.onnx.registry import OperatorNode, Value, from_host, known, operator


@operator("ImageDecoder")
def image_decoder(node: OperatorNode, stream: Value) -> Value:
    """The pixels [height, width, channels] of an image file as uint8; of what is no image, none."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ModuleNotFoundError as error:
        raise PluginError(f"{node} needs Pillow: pip install pillow") from error
    layout = choice(node, "pixel_format", ("RGB", "BGR", "Grayscale"), "RGB")
    try:
        image = Image.open(BytesIO(known(stream).astype(np.uint8).tobytes()))
        pixels = np.asarray(image.convert("L" if layout == "Grayscale" else "RGB"))
    except (UnidentifiedImageError, OSError):
        pixels = np.zeros((0, 0, 1 if layout == "Grayscale" else 3), np.uint8)
    if layout == "Grayscale":
        pixels = pixels.reshape(*pixels.shape[:2], 1)
    return from_host(np.ascontiguousarray(pixels[..., ::-1] if layout == "BGR" else pixels), node.device)
