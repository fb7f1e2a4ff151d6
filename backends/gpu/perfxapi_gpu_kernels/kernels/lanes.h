/* Lanes: neighbors that one instruction works on. On a processor a work-item is alone in its group and computes on
 * vectors of 16 lanes by name; elsewhere each of GROUP work-items is a lane, and a "vector" is a number. Code that
 * counts by LANES from FIRST_LANE, and works on operands of LANES neighbors, is the same for both. */

#if defined(PERFX_OPENCL) && IS_PROCESSOR
#define LANES 16
#define FIRST_LANE 0
#define LANE_NUMBERS ((int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15))
#define LANES_BARRIER()
typedef float16 lanes_float;
typedef int16 lanes_int;
#define BROADCAST(x) ((float16)(x))
#define FIRST_OF_LANES(x) ((x).s0)
#define LANES_AS_FLOAT(x) as_float16(x)
#define LANES_TO_INT(x) convert_int16(x)
#define LOAD_LANES(dtype, pointer, index) PERFX_JOIN(LOAD_LANES_, dtype)((pointer) + (index))
#define LOAD_LANES_float32(pointer) vload16(0, pointer)
#define LOAD_LANES_float16(pointer) vload_half16(0, (GLOBAL const half*)(pointer))
#define STORE_LANES(value, pointer, index) vstore16(value, 0, (pointer) + (index))

DEVICE float sum_of_lanes(float16 x) {
  float8 by_8 = x.lo + x.hi;
  float4 by_4 = by_8.lo + by_8.hi;
  return (by_4.x + by_4.z) + (by_4.y + by_4.w);
}

DEVICE float max_of_lanes(float16 x) {
  float8 by_8 = fmax(x.lo, x.hi);
  float4 by_4 = fmax(by_8.lo, by_8.hi);
  return fmax(fmax(by_4.x, by_4.z), fmax(by_4.y, by_4.w));
}
#else
#define LANES GROUP
#define FIRST_LANE LOCAL_ID(0)
#define LANE_NUMBERS 0
#define LANES_BARRIER() BARRIER()
typedef float lanes_float;
typedef int lanes_int;
#define BROADCAST(x) (x)
#define FIRST_OF_LANES(x) (x)
#define LANES_AS_FLOAT(x) AS_FLOAT(x)
#define LANES_TO_INT(x) ((int)(x))
#define LOAD_LANES(dtype, pointer, index) LOAD(dtype, pointer, index)
#define STORE_LANES(value, pointer, index) ((pointer)[index] = (value))
#endif

/* exp(x) for x <= 0, the same bits everywhere; 0 where it would be less than the least normal number. */
DEVICE lanes_float exp_of_negative(lanes_float x) {
  lanes_float n = rint(x * 1.4426950408889634f);
  lanes_float r = fma(n, BROADCAST(-0.693145751953125f), x);
  r = fma(n, BROADCAST(-1.428606765330187e-6f), r);
  lanes_float p = fma(r, BROADCAST(1.9875691500e-4f), BROADCAST(1.3981999507e-3f));
  p = fma(p, r, BROADCAST(8.3334519073e-3f));
  p = fma(p, r, BROADCAST(4.1665795894e-2f));
  p = fma(p, r, BROADCAST(1.6666665459e-1f));
  p = fma(p, r, BROADCAST(5.0000001201e-1f));
  p = fma(p, r * r, r) + 1.0f;
  lanes_float power = LANES_AS_FLOAT((LANES_TO_INT(fmax(n, BROADCAST(-127.0f))) + 127) << 23);
  return x < -87.0f ? BROADCAST(0.0f) : p * power;
}
