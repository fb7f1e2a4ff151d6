/* Vectors of float and double as wide as the registers of the variant, in the vector extensions of GCC and Clang:
 * operators are the language's own. A translation unit defines PERFX_VARIANT, the name of a namespace, before it. */
#ifndef PERFX_SIGNAL_VECTORS_HPP
#define PERFX_SIGNAL_VECTORS_HPP

#ifndef PERFX_VARIANT
#error "define PERFX_VARIANT before the kernels are included"
#endif

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__FMA__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

/* A loop over an array whose items are to stay in registers. */
#define PERFX_UNROLLED _Pragma("GCC unroll 16")

namespace perfx {
namespace PERFX_VARIANT {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__FMA__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

typedef float Floats __attribute__((vector_size(kVectorBytes)));
typedef double Doubles __attribute__((vector_size(kVectorBytes)));

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef Floats Type;
};
template <>
struct VectorOf<double> {
  typedef Doubles Type;
};
/* Numbers in a vector. */
template <class T>
constexpr int kLanes = kVectorBytes / int(sizeof(T));

template <class Vector, class T>
inline Vector load_as(const T* p) {
  Vector x;
  memcpy(&x, p, sizeof(x));
  return x;
}
template <class T>
inline typename VectorOf<T>::Type load(const T* p) {
  return load_as<typename VectorOf<T>::Type>(p);
}
template <class Vector, class T>
inline void store(T* p, Vector x) {
  memcpy(p, &x, sizeof(x));
}
/* All lanes the same; less zero, not plus zero, which would turn -0 into 0. */
template <class Vector, class T>
inline Vector spread_as(T x) {
  return x - Vector{};
}
template <class T>
inline typename VectorOf<T>::Type spread(T x) {
  return spread_as<typename VectorOf<T>::Type>(x);
}

/* a * b + c, rounded once. */
#if defined(__AVX512F__)
inline Floats fused(Floats a, Floats b, Floats c) { return Floats(_mm512_fmadd_ps(__m512(a), __m512(b), __m512(c))); }
inline Doubles fused(Doubles a, Doubles b, Doubles c) {
  return Doubles(_mm512_fmadd_pd(__m512d(a), __m512d(b), __m512d(c)));
}
#elif defined(__FMA__)
inline Floats fused(Floats a, Floats b, Floats c) { return Floats(_mm256_fmadd_ps(__m256(a), __m256(b), __m256(c))); }
inline Doubles fused(Doubles a, Doubles b, Doubles c) {
  return Doubles(_mm256_fmadd_pd(__m256d(a), __m256d(b), __m256d(c)));
}
#elif defined(__ARM_NEON) && defined(__aarch64__)
inline Floats fused(Floats a, Floats b, Floats c) {
  return Floats(vfmaq_f32(float32x4_t(c), float32x4_t(a), float32x4_t(b)));
}
inline Doubles fused(Doubles a, Doubles b, Doubles c) {
  return Doubles(vfmaq_f64(float64x2_t(c), float64x2_t(a), float64x2_t(b)));
}
#else
inline Floats fused(Floats a, Floats b, Floats c) {
  PERFX_UNROLLED for (int i = 0; i < kLanes<float>; ++i) c[i] = fmaf(a[i], b[i], c[i]);
  return c;
}
inline Doubles fused(Doubles a, Doubles b, Doubles c) {
  PERFX_UNROLLED for (int i = 0; i < kLanes<double>; ++i) c[i] = fma(a[i], b[i], c[i]);
  return c;
}
#endif
inline double fused(double a, double b, double c) { return fma(a, b, c); }

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
