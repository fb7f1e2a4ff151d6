/* The dialect in OpenCL C 1.2: no extension is needed for any of it. */

#define PERFX_OPENCL 1

/* The compiler may not say which products are fused: kernels do, by fma. */
#pragma OPENCL FP_CONTRACT OFF

typedef char int8_t;
typedef uchar uint8_t;
typedef short int16_t;
typedef ushort uint16_t;
typedef int int32_t;
typedef uint uint32_t;
typedef long int64_t;
typedef ulong uint64_t;

#if HAS_DOUBLE
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#endif

#define KERNEL __kernel void
#define KERNEL_OF(x, y, z) __kernel __attribute__((reqd_work_group_size(x, y, z))) void
#define DEVICE static inline
#define GLOBAL __global
#define LOCAL __local
#define LOCAL_ARRAY(type, name, count) __local type name[count]
#define CONSTANT __constant
#define RESTRICT restrict

#define GLOBAL_ID(axis) ((int)get_global_id(axis))
#define LOCAL_ID(axis) ((int)get_local_id(axis))
#define GROUP_ID(axis) ((int)get_group_id(axis))
#define LOCAL_SIZE(axis) ((int)get_local_size(axis))
#define NUM_GROUPS(axis) ((int)get_num_groups(axis))
#define BARRIER() barrier(CLK_LOCAL_MEM_FENCE)
/* Also orders what the work-group wrote to global memory. */
#define BARRIER_GLOBAL() barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE)

#define ATOMIC_CAS(pointer, expected, value) atomic_cmpxchg(pointer, expected, value)
#define ATOMIC_ADD(pointer, value) atomic_add(pointer, value)
#define ATOMIC_MAX(pointer, value) atomic_max(pointer, value)

#define AS_FLOAT(bits) as_float((uint)(bits))
#define AS_UINT(value) as_uint(value)
#define LOAD_HALF(pointer, index) vload_half(index, (GLOBAL const half*)(pointer))
#define STORE_HALF(value, pointer, index) vstore_half_rte(value, index, (GLOBAL half*)(pointer))

#if HAS_SUBGROUPS
#pragma OPENCL EXTENSION cl_khr_subgroups : enable
#define SUBGROUP_SUM(x) sub_group_reduce_add(x)
#define SUBGROUP_MAX(x) sub_group_reduce_max(x)
#endif

#if HAS_DOT4
#define DOT4(a, b, c) ((c) + dot_4x8packed_ss_int((uint)(a), (uint)(b)))
#endif
