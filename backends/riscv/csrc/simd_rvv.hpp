/* The SIMD layer for the RISC-V vector extension. See perfx/simd_portable.hpp.
 *
 * Vectors are of fixed size, 64 bytes, so that they can be members of structs and elements of arrays, which scalable
 * types cannot. The compiler gives them as many registers as a machine with the *least* vector length needs
 * (`__riscv_v_min_vlen`, from zvl128b, zvl256b, ...) and sets the number of elements with each instruction, so the code
 * is right on every machine whose registers are at least that long: LMUL is 4, 2, 1 and 1/2 for 128, 256, 512 and 1024
 * bits. The tiles follow from the number of such groups among the 32 registers.
 *
 * What the vector types have no operation for (parts of vectors, permutation by a variable) goes through memory, by
 * intrinsics on scalable types.
 */
#ifndef PERFX_RISCV_SIMD_RVV_HPP
#define PERFX_RISCV_SIMD_RVV_HPP

#include <riscv_vector.h>

#include "perfx/simd_vectors.hpp"

/* An intrinsic on 64 bytes */
#if __riscv_v_min_vlen >= 1024
#define PERFX_BYTES(name) __riscv_##name##_u8mf2
#elif __riscv_v_min_vlen >= 512
#define PERFX_BYTES(name) __riscv_##name##_u8m1
#elif __riscv_v_min_vlen >= 256
#define PERFX_BYTES(name) __riscv_##name##_u8m2
#else
#define PERFX_BYTES(name) __riscv_##name##_u8m4
#endif

namespace perfx {
namespace PERFX_VARIANT {

/* Groups of registers that hold an F: 8, 16, then 32. */
constexpr int kVectorGroups = __riscv_v_min_vlen >= 512 ? 32 : __riscv_v_min_vlen / 16;
constexpr int kTileRows = kVectorGroups == 8 ? 6 : 12;
constexpr int kTileVectors = kVectorGroups == 32 ? 24 : kTileRows;
/* Products take as many vectors side by side as four registers hold, at most 64 floats, as one operand: what an
 * instruction costs beside its arithmetic is then paid once for them. */
#define PERFX_WIDE_PRODUCTS
constexpr int kProductRows = 7;
constexpr int kProductVectors = kVectorGroups / 8;

/* Vectors in memory, aligned as their elements are: then a load is of elements, not of bytes. */
typedef float FloatsInMemory __attribute__((vector_size(64), aligned(4), may_alias));
typedef double DoublesInMemory __attribute__((vector_size(64), aligned(8), may_alias));
typedef uint16_t HalfLanes __attribute__((vector_size(32)));
typedef uint16_t HalvesInMemory __attribute__((vector_size(32), aligned(2), may_alias));
typedef uint32_t WordLanes __attribute__((vector_size(64)));

inline F load(const float* p) { return {*reinterpret_cast<const FloatsInMemory*>(p)}; }
inline void store(float* p, F x) { *reinterpret_cast<FloatsInMemory*>(p) = x.v; }
inline D load(const double* p) { return {*reinterpret_cast<const DoublesInMemory*>(p)}; }
inline void store(double* p, D x) { *reinterpret_cast<DoublesInMemory*>(p) = x.v; }

/* The first bytes of a vector, at most 64, from one place to another. The vector types cannot be read or written in
 * part, so that goes by a copy on the stack. */
inline void copy_first(void* to, const void* from, size_t bytes) {
  const auto source = static_cast<const uint8_t*>(from);
  PERFX_BYTES(vse8_v)(static_cast<uint8_t*>(to), PERFX_BYTES(vle8_v)(source, bytes), bytes);
}

template <class T>
struct Part {
  alignas(16) T items[64 / sizeof(T)] = {};
  Part(const T* p, int n) { copy_first(items, p, size_t(n) * sizeof(T)); }
};

inline F load_first(const float* p, int n) { return load(Part<float>(p, n).items); }
inline D load_first(const double* p, int n) { return load(Part<double>(p, n).items); }
inline void store_first(float* p, int n, F x) {
  alignas(16) float items[kLanes];
  store(items, x);
  copy_first(p, items, size_t(n) * sizeof(float));
}
inline void store_first(double* p, int n, D x) {
  alignas(16) double items[kDoubleLanes];
  store(items, x);
  copy_first(p, items, size_t(n) * sizeof(double));
}

#ifdef __riscv_zvfhmin
typedef _Float16 HalfFloats __attribute__((vector_size(32)));
inline F widen_half(HalfLanes half) { return {__builtin_convertvector(HalfFloats(half), FloatLanes)}; }
inline HalfLanes narrow_half(F x) { return HalfLanes(__builtin_convertvector(x.v, HalfFloats)); }
#else
/* float16 to float32: exact. A product with 2^112 moves the exponent up, and makes subnormal numbers normal. */
inline F widen_half(HalfLanes half) {
  const WordLanes words = __builtin_convertvector(half, WordLanes), magnitude = (words & 0x7fff) << 13;
  const FloatLanes scaled = FloatLanes(magnitude) * set(0x1p112f).v;
  const WordLanes special = magnitude >= 0x0f800000 ? WordLanes(scaled) | 0x7f800000 : WordLanes(scaled);
  return {FloatLanes(special | (words & 0x8000) << 16)};
}

/* float32 to float16, to nearest even; NaN stays a quiet NaN. */
inline HalfLanes narrow_half(F x) {
  const WordLanes all = WordLanes(x.v), sign = all >> 16 & 0x8000, bits = all & 0x7fffffff;
  /* subnormal or zero: adding 0.5 puts the rounded mantissa in the low bits */
  const WordLanes small = WordLanes(FloatLanes(bits) + set(0.5f).v) - 0x3f000000;
  const WordLanes normal = (bits - (112u << 23) + 0xfff + (bits >> 13 & 1)) >> 13;
  WordLanes result = bits < 0x38800000 ? small : normal;
  result = bits >= 0x477ff000 ? WordLanes{} + 0x7c00 : result;
  result = bits > 0x7f800000 ? (bits >> 13 & 0x3ff) | 0x7e00 : result;
  return __builtin_convertvector(result | sign, HalfLanes);
}
#endif

inline F load_half(const uint16_t* p) { return widen_half(*reinterpret_cast<const HalvesInMemory*>(p)); }
inline void store_half(uint16_t* p, F x) { *reinterpret_cast<HalvesInMemory*>(p) = narrow_half(x); }
inline F load_half_first(const uint16_t* p, int n) { return load_half(Part<uint16_t>(p, n).items); }
inline void store_half_first(uint16_t* p, int n, F x) {
  alignas(16) uint16_t half[kLanes];
  store_half(half, x);
  copy_first(p, half, size_t(n) * sizeof(uint16_t));
}

/* One step of a transposition: rows `distance` apart exchange the lanes in which theirs differ. */
#define PERFX_EXCHANGE(type, rows, count, distance, upper, lower)           \
  _Pragma("GCC unroll 16") for (int i = 0; i < count; ++i) {                \
    if (i & distance) continue;                                             \
    const type a = rows[i].v, b = rows[i + distance].v;                     \
    rows[i].v = __builtin_shufflevector(a, b, PERFX_LIST upper);            \
    rows[i + distance].v = __builtin_shufflevector(a, b, PERFX_LIST lower); \
  }
#define PERFX_LIST(...) __VA_ARGS__

inline void transpose(F (&x)[kLanes]) {
  PERFX_EXCHANGE(FloatLanes, x, kLanes, 8, (0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23),
                 (8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31))
  PERFX_EXCHANGE(FloatLanes, x, kLanes, 4, (0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27),
                 (4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31))
  PERFX_EXCHANGE(FloatLanes, x, kLanes, 2, (0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29),
                 (2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31))
  PERFX_EXCHANGE(FloatLanes, x, kLanes, 1, (0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30),
                 (1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31))
}
inline void transpose(D (&x)[kDoubleLanes]) {
  PERFX_EXCHANGE(DoubleLanes, x, kDoubleLanes, 4, (0, 1, 2, 3, 8, 9, 10, 11), (4, 5, 6, 7, 12, 13, 14, 15))
  PERFX_EXCHANGE(DoubleLanes, x, kDoubleLanes, 2, (0, 1, 8, 9, 4, 5, 12, 13), (2, 3, 10, 11, 6, 7, 14, 15))
  PERFX_EXCHANGE(DoubleLanes, x, kDoubleLanes, 1, (0, 8, 2, 10, 4, 12, 6, 14), (1, 9, 3, 11, 5, 13, 7, 15))
}

inline uint32_t mask_bits(M m) {
  typedef bool TruthLanes __attribute__((ext_vector_type(16)));
  const TruthLanes truths = __builtin_convertvector(m.v, TruthLanes);
  uint16_t bits;
  memcpy(&bits, &truths, sizeof(bits));
  return bits;
}

typedef float EightFloats __attribute__((vector_size(32)));
typedef float FourFloats __attribute__((vector_size(16)));
inline EightFloats low_half(F x) { return __builtin_shufflevector(x.v, x.v, 0, 1, 2, 3, 4, 5, 6, 7); }
inline EightFloats high_half(F x) { return __builtin_shufflevector(x.v, x.v, 8, 9, 10, 11, 12, 13, 14, 15); }
inline FourFloats low_half(EightFloats x) { return __builtin_shufflevector(x, x, 0, 1, 2, 3); }
inline FourFloats high_half(EightFloats x) { return __builtin_shufflevector(x, x, 4, 5, 6, 7); }

inline float reduce_add(F x) {
  const EightFloats eight = low_half(x) + high_half(x);
  const FourFloats four = low_half(eight) + high_half(eight);
  return (four[0] + four[2]) + (four[1] + four[3]);
}
inline float reduce_max(F x) {
  const auto larger = [](auto a, auto b) { return a > b ? a : b; };
  const EightFloats eight = larger(low_half(x), high_half(x));
  const FourFloats four = larger(low_half(eight), high_half(eight));
  return larger(larger(four[0], four[2]), larger(four[1], four[3]));
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
