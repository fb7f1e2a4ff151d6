/* What kernels use in every dialect, after the prelude of the API. Kernels are written in the C that OpenCL C 1.2, CUDA
 * C++ and HIP share, with fixed-width types, the names of OpenCL's math functions (exp, fma, fmax, rsqrt ...), and:
 *
 *   KERNEL name(...)            a kernel; KERNEL_OF(x, y, z) name(...) one of a fixed work-group size
 *   DEVICE                      a function that kernels call
 *   GLOBAL, LOCAL, CONSTANT     where what a pointer points to lies; LOCAL_ARRAY(type, name, count) inside a kernel
 *   OPERAND(type, name)         a parameter: an array that is written; CONST_OPERAND: one that is read. OPEN(type,
 * name) or OPEN_CONST(type, name) makes the pointer `name` of it LOCAL_ID, GROUP_ID ...      places and sizes, as int
 *   BARRIER()                   all work-items of a group, none missing
 *   FAULT_PARAMETERS, FAULT()   the last parameters of a kernel that checks its operands, and how it says that one is
 *                               wrong; IS_FAULTY says whether an earlier kernel of the same call (or plan) did
 *
 * Nothing may depend on the width of a subgroup, on a subgroup being there (HAS_SUBGROUPS), on doubles (HAS_DOUBLE) or
 * on dot products of bytes (HAS_DOT4). */

#define OPERAND(type, name) GLOBAL type *RESTRICT name##_memory, int64_t name##_offset
#define CONST_OPERAND(type, name) GLOBAL const type *RESTRICT name##_memory, int64_t name##_offset
#define OPEN(type, name) GLOBAL type* name = (GLOBAL type*)((GLOBAL uchar*)name##_memory + name##_offset)
#define OPEN_CONST(type, name) \
  GLOBAL const type* name = (GLOBAL const type*)((GLOBAL const uchar*)name##_memory + name##_offset)

#define FAULT_PARAMETERS GLOBAL int *fault_word, int64_t fault_offset, int fault_code
#define FAULT() ATOMIC_CAS(fault_word, 0, fault_code)
#define IS_FAULTY (*fault_word != 0)

#ifndef LOAD_HALF
/* IEEE 754 binary16 by hand, for compilers without a half type. */
DEVICE float perfx_half_to_float(uint32_t bits) {
  uint32_t sign = (bits & 0x8000u) << 16;
  uint32_t magnitude = bits & 0x7fffu;
  if (magnitude >= 0x7c00u) return AS_FLOAT(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  /* scaling by 2^112 makes subnormal halves right without a branch */
  return AS_FLOAT(sign | AS_UINT(AS_FLOAT(magnitude << 13) * AS_FLOAT(0x77800000u)));
}

DEVICE uint32_t perfx_float_to_half(float value) {
  uint32_t bits = AS_UINT(value);
  uint32_t sign = bits >> 16 & 0x8000u;
  uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return sign | 0x7e00u;
  if (magnitude >= 0x47800000u) return sign | 0x7c00u;
  if (magnitude < 0x38800000u) /* subnormal: adding 0.5 leaves the digits, rounded to nearest even, in the last bits */
    return sign | (AS_UINT(AS_FLOAT(magnitude) + 0.5f) - 0x3f000000u);
  return sign | ((magnitude + 0xfffu + (magnitude >> 13 & 1u) - 0x38000000u) >> 13);
}

#define LOAD_HALF(pointer, index) perfx_half_to_float((pointer)[index])
#define STORE_HALF(value, pointer, index) ((pointer)[index] = (uint16_t)perfx_float_to_half(value))
#endif

#define LOAD_BFLOAT16(pointer, index) AS_FLOAT((uint32_t)(pointer)[index] << 16)

/* STORAGE(dtype) is how elements of a floating dtype (the bare word float32, float16 or bfloat16, often a define) lie
 * in memory, LOAD(dtype, pointer, index) one of them as float, STORE(dtype, value, pointer, index) writes one. */
#define STORAGE(dtype) PERFX_JOIN(STORAGE_, dtype)
#define LOAD(dtype, pointer, index) PERFX_JOIN(LOAD_, dtype)(pointer, index)
#define PERFX_JOIN(a, b) PERFX_JOIN_NOW(a, b)
#define PERFX_JOIN_NOW(a, b) a##b
#define LOAD_float32(pointer, index) ((pointer)[index])
#define LOAD_float16(pointer, index) LOAD_HALF(pointer, index)
#define LOAD_bfloat16(pointer, index) LOAD_BFLOAT16(pointer, index)
#define STORE(dtype, value, pointer, index) PERFX_JOIN(STORE_, dtype)(value, pointer, index)
#define STORE_float32(value, pointer, index) ((pointer)[index] = (value))
#define STORE_float16(value, pointer, index) STORE_HALF(value, pointer, index)
#define STORAGE_float32 float
#define STORAGE_float16 uint16_t
#define STORAGE_bfloat16 uint16_t

#ifndef DOT4
DEVICE int perfx_dot4(uint32_t a, uint32_t b, int c) {
  for (int byte = 0; byte < 32; byte += 8) c += ((int)(a << (24 - byte)) >> 24) * ((int)(b << (24 - byte)) >> 24);
  return c;
}
#define DOT4(a, b, c) perfx_dot4((uint32_t)(a), (uint32_t)(b), c)
#endif

/* The sum of `value` over the work-group, in every work-item: a fixed order, whatever the width of a subgroup.
 * `scratch` has one float for each work-item; a group is one row of a power of two of work-items. Few of them, lanes of
 * a vector of a processor, each add up all: barriers cost more there. */
#define PERFX_FEW 16

DEVICE float group_sum(float value, LOCAL float* scratch) {
  int id = LOCAL_ID(0), size = LOCAL_SIZE(0);
  BARRIER();
  scratch[id] = value;
  BARRIER();
  if (size <= PERFX_FEW) {
    float sum = 0;
    for (int other = 0; other < size; other++) sum += scratch[other];
    return sum;
  }
  for (int half_size = size / 2; half_size > 0; half_size /= 2) {
    if (id < half_size) scratch[id] += scratch[id + half_size];
    BARRIER();
  }
  return scratch[0];
}

/* The same for the maximum. NaN counts as the largest. */
DEVICE float group_max(float value, LOCAL float* scratch) {
  int id = LOCAL_ID(0), size = LOCAL_SIZE(0);
  BARRIER();
  scratch[id] = value;
  BARRIER();
  for (int half_size = size / 2; half_size > 0; half_size /= 2) {
    if (id < half_size) {
      float other = scratch[id + half_size];
      if (!(scratch[id] >= other) && !isnan(scratch[id])) scratch[id] = other;
    }
    BARRIER();
  }
  return scratch[0];
}
