/* Functions of numbers of the dtype COMPUTE, named apply_*. */

#include "elements.h"
#include "numbers.h"
#if IS_COPY
DEVICE number apply_copy(number a) { return a; }
#elif IS_REAL
#include "real_functions.h"
#else
#include "whole_functions.h"
#endif

/* What no number is below, and none above. */
#define LOWEST PERFX_JOIN(LOWEST_, COMPUTE)
#define HIGHEST PERFX_JOIN(HIGHEST_, COMPUTE)
#define LOWEST_float32 (-AS_FLOAT(0x7f800000u))
#define LOWEST_float64 (-AS_FLOAT(0x7f800000u))
#define LOWEST_int32 ((int32_t)(1u << 31))
#define LOWEST_int64 ((int64_t)((uint64_t)1 << 63))
#define LOWEST_uint32 0
#define LOWEST_uint64 0
#define HIGHEST_float32 AS_FLOAT(0x7f800000u)
#define HIGHEST_float64 AS_FLOAT(0x7f800000u)
#define HIGHEST_int32 ((int32_t)0x7fffffff)
#define HIGHEST_int64 ((int64_t)(~(uint64_t)0 >> 1))
#define HIGHEST_uint32 (~(uint32_t)0)
#define HIGHEST_uint64 (~(uint64_t)0)
