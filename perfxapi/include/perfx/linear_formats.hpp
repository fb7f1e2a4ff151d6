/* The storage formats of weights, one row at a time: GGUF blocks, their places in PX_TILE16, their values. */
#ifndef PERFX_LINEAR_FORMATS_HPP
#define PERFX_LINEAR_FORMATS_HPP

#include "perfx/linear_formats_k.hpp"
#include "perfx/linear_formats_simple.hpp"

#endif
