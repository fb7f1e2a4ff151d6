"""Parts that several architectures share, written on the op API."""
