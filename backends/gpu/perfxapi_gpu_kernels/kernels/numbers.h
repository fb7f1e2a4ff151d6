/* WIDTH neighbors in one work-item: on a processor a vector, so that its compiler need not find one; on a GPU, where a
 * work-item is a lane, a number (WIDTH 1). Wider than 1 is for OpenCL and float32 alone.
 *
 * `numbers` takes C's operators, comparisons, ?: and the functions of OpenCL in both forms; `truths` is what
 * comparisons give. */

#ifndef WIDTH
#define WIDTH 1
#endif

#if WIDTH == 1
typedef number numbers;
typedef int truths;
#define LOAD_NUMBERS(pointer) (*(pointer))
#define STORE_NUMBERS(values, pointer) (*(pointer) = (values))
#else
typedef PERFX_JOIN(float, WIDTH) numbers;
typedef PERFX_JOIN(int, WIDTH) truths;
#define LOAD_NUMBERS(pointer) PERFX_JOIN(vload, WIDTH)(0, pointer)
#define STORE_NUMBERS(values, pointer) PERFX_JOIN(vstore, WIDTH)(values, 0, pointer)

/* `count` numbers of some stride; the first once more in place of those that are lacking. */
DEVICE numbers read_numbers(GLOBAL const float* source, int64_t stride, int count) {
  if (stride == 1 && count == WIDTH) return LOAD_NUMBERS(source);
  float values[WIDTH];
  for (int lane = 0; lane < WIDTH; lane++) values[lane] = source[lane < count ? lane * stride : 0];
  return LOAD_NUMBERS(values);
}

DEVICE void write_numbers(numbers values, GLOBAL float* target, int64_t stride, int count) {
  if (stride == 1 && count == WIDTH) {
    STORE_NUMBERS(values, target);
    return;
  }
  float parts[WIDTH];
  STORE_NUMBERS(values, parts);
  for (int lane = 0; lane < count; lane++) target[lane * stride] = parts[lane];
}

/* Comparisons give -1 for what is true. */
DEVICE void write_truths(truths values, GLOBAL uchar* target, int64_t stride, int count) {
  int parts[WIDTH];
  PERFX_JOIN(vstore, WIDTH)(values, 0, parts);
  for (int lane = 0; lane < count; lane++) target[lane * stride] = (uchar)(parts[lane] != 0);
}
#endif
