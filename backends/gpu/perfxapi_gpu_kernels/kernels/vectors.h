/* WIDTH neighbors in one work-item: a vector on a processor, whose compilers then need not find it themselves, and one
 * number (WIDTH 1) on a GPU, where a work-item is a lane. `floats`, `ints` and `uints` take C's operators, fma() and
 * the functions of OpenCL in both forms. Wider than 1 is for OpenCL alone. */

#if WIDTH == 1
typedef float floats;
typedef int32_t ints;
typedef uint32_t uints;
#define TO_FLOATS(values) ((float)(values))
#define AS_FLOATS(bits) AS_FLOAT(bits)
#define AS_INTS(bits) ((int32_t)(bits))
#define AS_UINTS(values) AS_UINT(values)
#define WHERE(condition, yes, no) ((condition) ? (yes) : (no))
#define NUMBERS_OR_ZEROS(values) (isnan(values) ? 0.0f : (values))
#define LOAD_LANES(pointer) (*(pointer))
#define STORE_LANES(values, pointer) (*(pointer) = (values))
#define LOAD_HALF_LANES(pointer) LOAD_HALF(pointer, 0)
#else
#define floats PERFX_JOIN(float, WIDTH)
#define ints PERFX_JOIN(int, WIDTH)
#define uints PERFX_JOIN(uint, WIDTH)
#define TO_FLOATS(values) PERFX_JOIN(convert_float, WIDTH)(values)
#define AS_FLOATS(bits) PERFX_JOIN(as_float, WIDTH)(bits)
#define AS_INTS(bits) PERFX_JOIN(as_int, WIDTH)(bits)
#define AS_UINTS(values) PERFX_JOIN(as_uint, WIDTH)(values)
#define WHERE(condition, yes, no) select((uints)(no), (uints)(yes), condition)
#define NUMBERS_OR_ZEROS(values) select((floats)0, values, isequal(values, values))
#define LOAD_LANES(pointer) PERFX_JOIN(vload, WIDTH)(0, pointer)
#define STORE_LANES(values, pointer) PERFX_JOIN(vstore, WIDTH)(values, 0, pointer)
#define LOAD_HALF_LANES(pointer) PERFX_JOIN(vload_half, WIDTH)(0, (GLOBAL const half*)(pointer))
#endif

/* Halves in the low 16 bits of each lane. Scaling by 2^112 makes subnormal ones right without a branch. */
DEVICE floats halves_to_floats(uints bits) {
  uints magnitude = bits & 0x7fffu;
  uints number = AS_UINTS(AS_FLOATS(magnitude << 13) * AS_FLOAT(0x77800000u));
  uints special = 0x7f800000u | (magnitude & 0x3ffu) << 13;
  return AS_FLOATS((bits & 0x8000u) << 16 | WHERE(magnitude >= 0x7c00u, special, number));
}
