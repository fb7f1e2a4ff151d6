"""ONNX: files of that format run as plans on any device, and graphs are saved as such files."""
