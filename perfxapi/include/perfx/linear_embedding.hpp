/* embedding: rows of a table, in any weight format, packed in tiles or as stored. */
#ifndef PERFX_LINEAR_EMBEDDING_HPP
#define PERFX_LINEAR_EMBEDDING_HPP

#include "perfx/linear_formats.hpp"

namespace perfx {
namespace PERFX_VARIANT {
namespace linear {

constexpr int64_t kTokensPerClaim = 4;

/* Operands: tokens, table; y. Attribute: scale. */
inline bool fits_embedding(const PxCall* call) {
  if (call->num_inputs != 2 || call->num_operands != 3 || call->num_attrs != 1) return false;
  const PxTensor &tokens = call->operands[0], &table = call->operands[1], &y = call->operands[2];
  if (tokens.layout != PX_STRIDED || tokens.dtype != PX_INT32 || tokens.ndim != 1) return false;
  const PxBlock block = perfx_block(table.dtype);
  if (block.columns == 0 || !is_matrix(table) || table.shape[1] % block.columns != 0) return false;
  const bool has_floats = block.columns == 1;
  if (table.layout == PX_STRIDED && has_floats && !has_contiguous_rows(table, block.row_bytes)) return false;
  if (table.layout != PX_STRIDED && !is_packed_weight(table)) return false;
  return is_matrix_of_rows(y, PX_FLOAT32) && has_shape(y, tokens.shape[0], table.shape[1]);
}

inline int32_t token_at(const PxTensor& tokens, int64_t index) {
  const int64_t stride = tokens.flags & PX_CONTIGUOUS ? 4 : tokens.strides[0];
  return load_unaligned<int32_t>(static_cast<const Byte*>(tokens.data) + index * stride);
}

inline bool has_only_valid_tokens(const PxTensor& tokens, int64_t num_rows) {
  bool valid = true;
  for (int64_t i = 0; i < tokens.shape[0]; ++i) valid &= uint64_t(token_at(tokens, i)) < uint64_t(num_rows);
  return valid;
}

/* y = the row's values * scale. A row that is not in tiles is first put, block by block, in the first row of one. */
template <int32_t dtype>
void write_row(const PxTensor& table, int64_t row, float scale, float* y) {
  const PxBlock block = perfx_block(dtype);
  const int values_per_part = block.columns == 1 ? 1 : 32, num_parts = block.columns / values_per_part;
  const bool is_packed = table.layout == PX_TILE16;
  const bool is_split = table.layout == PX_SPLIT16;
  const int lane = is_packed ? int(row % kTileRows) : 0;
  const Byte* from = is_packed  ? Weight(table).tile(row / kTileRows)
                     : is_split ? nullptr
                                : row_of<const Byte>(table, row);
  Byte single[PERFX_MAX_TILE_BLOCK_BYTES];
  Byte joined[34]; /* a block of Q8_0 */
  for (int64_t k = 0; k < table.shape[1]; k += block.columns) {
    const Byte* tile = from;
    if (is_split) SplitBlock(Weight(table), row, k / block.columns).unpack(joined);
    if (!is_packed) {
      std::memset(single, 0, size_t(block.tile_bytes));
      Format<dtype>::pack(is_split ? joined : from, single, 0);
      tile = single;
    }
    for (int part = 0; part < num_parts; ++part)
      Format<dtype>::values(tile, part, lane, y + k + part * values_per_part);
    if (!is_split) from += is_packed ? block.tile_bytes : block.row_bytes;
  }
  for (int64_t k = 0; k < table.shape[1]; ++k) y[k] *= scale;
}

using WriteRowFn = void (*)(const PxTensor& table, int64_t row, float scale, float* y);

inline WriteRowFn write_row_of(int32_t dtype) {
  const auto choose = [](auto constant) -> WriteRowFn { return write_row<decltype(constant)::value>; };
  return is_quantized(dtype) ? for_quantized(dtype, choose) : for_float(dtype, choose);
}

/* All threads look at all tokens, so that all refuse a call with an invalid one before any has written. */
inline int32_t run_embedding(const PxCall* call, const PxThread* thread) {
  const PxTensor &tokens = call->operands[0], &table = call->operands[1], &y = call->operands[2];
  if (!has_only_valid_tokens(tokens, table.shape[0])) return PX_INVALID_ARGUMENT;
  const WriteRowFn write = write_row_of(table.dtype);
  const float scale = float(call->attrs[0].f);
  const int64_t count = tokens.shape[0];
  for (int64_t first; (first = perfx_claim(thread, 0, kTokensPerClaim)) < count;)
    for (int64_t i = first; i < smaller(first + kTokensPerClaim, count); ++i)
      write(table, token_at(tokens, i), scale, row_of<float>(y, i));
  return PX_OK;
}

}  // namespace linear
}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
