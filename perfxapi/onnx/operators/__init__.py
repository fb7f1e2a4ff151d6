"""Translations of ONNX's operators, a module for each family. Importing this package registers them."""
