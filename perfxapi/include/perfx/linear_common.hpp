/* What all parts of the matrix-product kernels share: the variant's namespace, small helpers, views of operands.
 *
 * Everything lies in perfx::PERFX_VARIANT::linear, a name that each translation unit defines before it includes these
 * headers: two units compiled for different instruction sets must not share one inline function, or the linker could
 * give the older machine the newer code. For the same reason nothing here uses templates of the standard library.
 */
#ifndef PERFX_LINEAR_COMMON_HPP
#define PERFX_LINEAR_COMMON_HPP

#ifndef PERFX_VARIANT
#error "define PERFX_VARIANT (the instruction set's name) before including the kernels"
#endif

#include <cmath>
#include <cstdint>
#include <cstring>

#include "perfx/abi.h"
#include "perfx/packing.h"

namespace perfx {
namespace PERFX_VARIANT {
namespace linear {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "PX_TILE16 is little-endian");

using Byte = unsigned char;

constexpr int kTileRows = PERFX_TILE_ROWS;
constexpr int64_t kCacheLine = 64;

/* Format of the activations in a product: the op attribute `activation_format`. */
enum ActivationFormat : int { kFloat32 = 0, kInt8 = 1, kInt16 = 2 };

template <class T>
constexpr T smaller(T a, T b) {
  return b < a ? b : a;
}
template <class T>
constexpr T larger(T a, T b) {
  return a < b ? b : a;
}
constexpr int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_to_line(int64_t bytes) { return ceil_divide(bytes, kCacheLine) * kCacheLine; }

template <class To, class From>
inline To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From), "bit_cast keeps the size");
  To to;
  std::memcpy(&to, &from, sizeof(To));
  return to;
}
template <class T>
inline T load_unaligned(const void* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

/* Exact widening of a float16, subnormals, infinities and NaN included. */
inline float widen_float16(uint16_t half) {
  const uint32_t sign = uint32_t(half & 0x8000) << 16, rest = half & 0x7fffu;
  if (rest >= 0x7c00) return bit_cast<float>(sign | 0x7f800000 | (rest & 0x3ff) << 13);
  /* The exponent is moved up by a product with 2^112, which also makes subnormals normal. */
  const float magnitude = bit_cast<float>(rest << 13) * bit_cast<float>(uint32_t{239} << 23);
  return bit_cast<float>(sign | bit_cast<uint32_t>(magnitude));
}
inline float widen_bfloat16(uint16_t half) { return bit_cast<float>(uint32_t{half} << 16); }

inline float load_float16(const Byte* from) { return widen_float16(load_unaligned<uint16_t>(from)); }

/* What the four bits of a code stand for, with the format's offset added: 128 for IQ4_NL and IQ4_XS, 16 for the doubled
 * FP4 numbers (E2M1) of MXFP4. */
constexpr Byte kIq4Codes[16] = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};
constexpr Byte kFp4Codes[16] = {16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4};

/* 2^(exponent - 128), exactly: the product of two normal numbers, where it is subnormal itself. */
inline float power_of_two(int exponent) {
  const int half = exponent / 2;
  return bit_cast<float>(uint32_t(half + 63) << 23) * bit_cast<float>(uint32_t(exponent - half + 63) << 23);
}

/* ---- storage types as template arguments */

template <int32_t number>
struct Constant {
  static constexpr int32_t value = number;
};

/* Calls `function` with the dtype as a type's constant. */
template <class Function>
inline auto for_float(int32_t dtype, Function function) {
  if (dtype == PX_FLOAT16) return function(Constant<PX_FLOAT16>{});
  if (dtype == PX_BFLOAT16) return function(Constant<PX_BFLOAT16>{});
  return function(Constant<PX_FLOAT32>{});
}
template <class Function>
inline auto for_quantized(int32_t dtype, Function function) {
  switch (dtype) {
    case PX_Q4_0:
      return function(Constant<PX_Q4_0>{});
    case PX_Q4_1:
      return function(Constant<PX_Q4_1>{});
    case PX_Q5_0:
      return function(Constant<PX_Q5_0>{});
    case PX_Q5_1:
      return function(Constant<PX_Q5_1>{});
    case PX_Q8_0:
      return function(Constant<PX_Q8_0>{});
    case PX_Q2_K:
      return function(Constant<PX_Q2_K>{});
    case PX_Q3_K:
      return function(Constant<PX_Q3_K>{});
    case PX_Q4_K:
      return function(Constant<PX_Q4_K>{});
    case PX_Q5_K:
      return function(Constant<PX_Q5_K>{});
    case PX_Q6_K:
      return function(Constant<PX_Q6_K>{});
    case PX_Q8_K:
      return function(Constant<PX_Q8_K>{});
    case PX_IQ4_NL:
      return function(Constant<PX_IQ4_NL>{});
    case PX_IQ4_XS:
      return function(Constant<PX_IQ4_XS>{});
    case PX_MXFP4:
      return function(Constant<PX_MXFP4>{});
    default:
      return function(Constant<PX_INT4_G128>{});
  }
}

/* ---- operands */

inline bool is_matrix(const PxTensor& tensor) { return tensor.ndim == 2; }

/* Are the elements of each row of a matrix neighbours in memory, and the rows whole elements apart? An empty matrix has
 * any strides. */
inline bool has_contiguous_rows(const PxTensor& matrix, int64_t itemsize) {
  if ((matrix.flags & PX_CONTIGUOUS) || matrix.shape[0] == 0 || matrix.shape[1] == 0) return true;
  if (matrix.shape[0] > 1 && matrix.strides[0] % itemsize != 0) return false;
  return matrix.shape[1] == 1 || matrix.strides[1] == itemsize;
}
/* A float32 or int32 matrix whose rows are contiguous. */
inline bool is_matrix_of_rows(const PxTensor& tensor, int32_t dtype) {
  return tensor.layout == PX_STRIDED && tensor.dtype == dtype && is_matrix(tensor) && has_contiguous_rows(tensor, 4);
}
inline bool has_shape(const PxTensor& tensor, int64_t rows, int64_t columns) {
  return is_matrix(tensor) && tensor.shape[0] == rows && tensor.shape[1] == columns;
}

template <class T>
inline T* row_of(const PxTensor& tensor, int64_t row) {
  return reinterpret_cast<T*>(static_cast<Byte*>(tensor.data) + row * tensor.strides[0]);
}

/* A matrix of packed weights. */
struct Weight {
  const Byte* data;
  int32_t dtype;
  bool is_split; /* PX_SPLIT16, not PX_TILE16 */
  int64_t rows;
  int64_t columns;
  int64_t tile_bytes;

  Weight() = default;
  explicit Weight(const PxTensor& tensor)
      : data(static_cast<const Byte*>(tensor.data)),
        dtype(tensor.dtype),
        is_split(tensor.layout == PX_SPLIT16),
        rows(tensor.shape[0]),
        columns(tensor.shape[1]),
        tile_bytes(is_split ? perfx_split_tile_bytes(columns) : perfx_tile_bytes(dtype, columns)) {}

  /* Columns that a source of weights reads at once. */
  int64_t block_columns() const { return is_split ? PERFX_SPLIT_COLUMNS : perfx_block(dtype).columns; }
  int64_t num_tiles() const { return (rows + kTileRows - 1) / kTileRows; }
  int num_rows(int64_t tile) const { return int(smaller<int64_t>(rows - tile * kTileRows, kTileRows)); }
  const Byte* tile(int64_t index) const { return data + index * tile_bytes; }
  /* Of a split weight: where a row's low halves, a tile's scales and a tile's norms begin. */
  const Byte* low_halves(int64_t row) const {
    return data + num_tiles() * tile_bytes + row * perfx_split_row_bytes(columns);
  }
  const Byte* scales(int64_t index) const { return tile(index) + columns / 32 * 256; }
  const Byte* norms(int64_t index) const { return tile(index) + columns / 32 * 288; }
};

inline bool is_quantized(int32_t dtype) { return dtype >= PX_Q4_0; }

inline bool is_packed_weight(const PxTensor& tensor) {
  const PxBlock block = perfx_block(tensor.dtype);
  if (!is_matrix(tensor) || block.columns == 0) return false;
  if (tensor.layout == PX_SPLIT16) return tensor.dtype == PX_Q8_0 && tensor.shape[1] % PERFX_SPLIT_COLUMNS == 0;
  return tensor.layout == PX_TILE16 && tensor.shape[1] % block.columns == 0;
}

/* Can a tile kernel multiply this weight with activations of that format? Float weights take float activations only. */
inline bool is_weight(const PxTensor& tensor, int64_t columns, int64_t format) {
  if (!is_packed_weight(tensor) || tensor.shape[1] != columns) return false;
  return format == kFloat32 || (is_quantized(tensor.dtype) && (format == kInt8 || format == kInt16));
}

}  // namespace linear
}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
