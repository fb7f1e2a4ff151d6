/* What the text of a program finds before it, in place of CUDA's compiler: the keywords, built-in variables and
 * built-in functions that kernels use, for the C++ compiler at hand. No header is included, so that no more is there
 * than NVRTC gives. The machine itself is machine.cpp. */

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
};

/* The machine is a library of its own, which all programs share. */
namespace machine __attribute__((visibility("default"))) {

  extern uint3 thread_id, block_id;
  extern dim3 block_size, grid_size;

  /* The calling thread goes on when all threads of its block have come to the same line. */
  void wait_for_block(const char* file, int line);
  /* What the thread of some lane of the caller's warp gave; all threads of the warp must call it. */
  unsigned exchange(unsigned value, unsigned lane);
  unsigned lane();

  /* Arguments as they were given, each with its size in bytes. */
  struct Arguments {
    void** values;
    const unsigned long* widths;
    int count;
  };

  /* What is wrong with the arguments of a kernel whose parameters have `widths`, or null. */
  const char* check(const Arguments& given, const unsigned long* widths, int count);

  /* Runs `body(context)` for every thread of every block, one block after another. `sizes` has the blocks, then the
   * threads of one, along x, y and z. `shared` up to `shared_end` is where arrays of __shared__ lie. Says what went
   * wrong, or null. */
  const char* run(void (*body)(void*), void* context, const unsigned* sizes, char* shared, char* shared_end);

  template <class... Each>
  struct Types {};

  template <class Kernel, class... Ready>
  void call(Kernel kernel, void**, Types<>, Ready... ready) {
    kernel(ready...);
  }

  template <class Kernel, class First, class... Rest, class... Ready>
  void call(Kernel kernel, void** next, Types<First, Rest...>, Ready... ready) {
    call(kernel, next + 1, Types<Rest...>{}, ready..., *static_cast<First*>(*next));
  }

  template <class... Parameters>
  struct Launch {
    void (*kernel)(Parameters...);
    void** arguments;

    static void thread(void* launch) {
      Launch& self = *static_cast<Launch*>(launch);
      call(self.kernel, self.arguments, Types<Parameters...>{});
    }
  };

  template <class... Parameters>
  const char* launch(void (*kernel)(Parameters...), const Arguments& given, const unsigned* sizes, char* shared,
                     char* end) {
    const unsigned long widths[] = {sizeof(Parameters)..., 0};
    if (const char* problem = check(given, widths, sizeof...(Parameters))) return problem;
    Launch<Parameters...> whole{kernel, given.values};
    return run(Launch<Parameters...>::thread, &whole, sizes, shared, end);
  }

}  // namespace machine

/* The linker names the ends of a section; without an array of __shared__ there is none. */
extern char __start_perfx_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_perfx_shared[] __attribute__((weak, visibility("hidden")));

/* After the text of a program: the function that launches one of its kernels. */
#define MACHINE_ENTRY(kernel)                                                                                  \
  extern "C" __attribute__((visibility("default"))) const char* launch_##kernel(                               \
      const unsigned* sizes, void** values, const unsigned long* widths, int count) {                          \
    return machine::launch(kernel, {values, widths, count}, sizes, __start_perfx_shared, __stop_perfx_shared); \
  }

#define __global__
#define __device__
#define __shared__ static __attribute__((section("perfx_shared")))
#define __launch_bounds__(...)
#define threadIdx machine::thread_id
#define blockIdx machine::block_id
#define blockDim machine::block_size
#define gridDim machine::grid_size
#define __syncthreads() machine::wait_for_block(__FILE__, __LINE__)

static inline float __uint_as_float(unsigned bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

static inline unsigned __float_as_uint(float value) {
  unsigned bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits;
}

static inline float __shfl_xor_sync(unsigned, float value, int mask) {
  return __uint_as_float(machine::exchange(__float_as_uint(value), machine::lane() ^ unsigned(mask)));
}

static inline int __dp4a(int a, int b, int sum) {
  for (int byte = 0; byte < 32; byte += 8) sum += (a << (24 - byte) >> 24) * (b << (24 - byte) >> 24);
  return sum;
}

/* Threads of the machine never run at the same time. */
template <class Number>
Number atomicCAS(Number* pointer, Number expected, Number value) {
  Number old = *pointer;
  if (old == expected) *pointer = value;
  return old;
}

template <class Number>
Number atomicAdd(Number* pointer, Number value) {
  Number old = *pointer;
  *pointer = old + value;
  return old;
}

template <class Number>
Number atomicMax(Number* pointer, Number value) {
  Number old = *pointer;
  if (value > old) *pointer = value;
  return old;
}

#define MACHINE_UNARY(name)                                            \
  static inline float name(float x) { return __builtin_##name##f(x); } \
  static inline double name(double x) { return __builtin_##name(x); }
#define MACHINE_BINARY(name)                                                       \
  static inline float name(float x, float y) { return __builtin_##name##f(x, y); } \
  static inline double name(double x, double y) { return __builtin_##name(x, y); }
#define MACHINE_TEST(name)                                              \
  static inline bool name(float x) { return __builtin_##name(x) != 0; } \
  static inline bool name(double x) { return __builtin_##name(x) != 0; }

MACHINE_UNARY(fabs)
MACHINE_UNARY(floor)
MACHINE_UNARY(ceil)
MACHINE_UNARY(trunc)
MACHINE_UNARY(round)
MACHINE_UNARY(rint)
MACHINE_UNARY(sqrt)
MACHINE_UNARY(exp)
MACHINE_UNARY(exp2)
MACHINE_UNARY(exp10)
MACHINE_UNARY(expm1)
MACHINE_UNARY(log)
MACHINE_UNARY(log2)
MACHINE_UNARY(log10)
MACHINE_UNARY(log1p)
MACHINE_UNARY(sin)
MACHINE_UNARY(cos)
MACHINE_UNARY(tan)
MACHINE_UNARY(asin)
MACHINE_UNARY(acos)
MACHINE_UNARY(atan)
MACHINE_UNARY(sinh)
MACHINE_UNARY(cosh)
MACHINE_UNARY(tanh)
MACHINE_UNARY(asinh)
MACHINE_UNARY(acosh)
MACHINE_UNARY(atanh)
MACHINE_UNARY(erf)
MACHINE_UNARY(erfc)
MACHINE_BINARY(atan2)
MACHINE_BINARY(copysign)
MACHINE_BINARY(fmax)
MACHINE_BINARY(fmin)
MACHINE_BINARY(fmod)
MACHINE_BINARY(hypot)
MACHINE_BINARY(nextafter)
MACHINE_BINARY(pow)
MACHINE_BINARY(remainder)
MACHINE_TEST(isfinite)
MACHINE_TEST(isinf)
MACHINE_TEST(isnan)
MACHINE_TEST(signbit)

static inline float fma(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
static inline double fma(double x, double y, double z) { return __builtin_fma(x, y, z); }
static inline float ldexp(float x, int exponent) { return __builtin_ldexpf(x, exponent); }
static inline double ldexp(double x, int exponent) { return __builtin_ldexp(x, exponent); }
static inline float rsqrt(float x) { return 1.0f / __builtin_sqrtf(x); }
static inline double rsqrt(double x) { return 1.0 / __builtin_sqrt(x); }

#define MACHINE_EXTREMES(type)                                     \
  static inline type min(type x, type y) { return y < x ? y : x; } \
  static inline type max(type x, type y) { return x < y ? y : x; }

MACHINE_EXTREMES(int)
MACHINE_EXTREMES(unsigned)
MACHINE_EXTREMES(long long)
MACHINE_EXTREMES(unsigned long long)

static inline int abs(int x) { return x < 0 ? -x : x; }
static inline long long abs(long long x) { return x < 0 ? -x : x; }
