"""Measures PerfXLM beside its peers on one machine, in one run: speed, memory, first token, quality."""
