"""What the kernels for RISC-V execute: instructions under emulation, cycles in llvm-mca's models of processors.

Seconds under emulation mean nothing, so `python -m bench.riscv` counts instead. A static program calls one kernel some
times under qemu, which logs the address of every instruction; the same program with twice the calls gives what one
call executes. The loop in which most of it happens is then given to llvm-mca. llama.cpp's kernels, where its sources
are named, go the same way.
"""
