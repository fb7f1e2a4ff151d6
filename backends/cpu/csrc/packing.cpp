// perfx_pack and perfx_unpack: GGUF rows to PX_TILE16 (perfx/packing.h) and back, without loss.
#define PERFX_VARIANT packing
#include <cstring>

#include "perfx/host.h"
#include "perfx/linear_formats.hpp"

namespace perfx {
namespace packing {
namespace {

using linear::Byte;
using linear::Format;

// A call's operands are the source and the destination; the strided one has the true shape.
struct Job {
  const Byte* source;
  Byte* destination;
  int64_t rows;
  int64_t num_blocks;
  PxBlock block;

  explicit Job(const PxCall* call)
      : source(static_cast<const Byte*>(call->operands[0].data)),
        destination(static_cast<Byte*>(call->operands[1].data)),
        rows(call->operands[0].shape[0]),
        block(perfx_block(call->operands[0].dtype)) {
    num_blocks = call->operands[0].shape[1] / block.columns;
  }
  int64_t num_tiles() const { return (rows + PERFX_TILE_ROWS - 1) / PERFX_TILE_ROWS; }
  int rows_of(int64_t tile) const {
    const int64_t left = rows - tile * PERFX_TILE_ROWS;
    return static_cast<int>(left < PERFX_TILE_ROWS ? left : PERFX_TILE_ROWS);
  }
  int64_t row_offset(int64_t tile, int row, int64_t index) const {
    return ((tile * PERFX_TILE_ROWS + row) * num_blocks + index) * block.row_bytes;
  }
  int64_t tile_offset(int64_t tile, int64_t index) const { return (tile * num_blocks + index) * block.tile_bytes; }
};

template <int32_t dtype>
void pack_tile(const Job& job, int64_t tile) {
  for (int64_t index = 0; index < job.num_blocks; ++index) {
    Byte* to = job.destination + job.tile_offset(tile, index);
    std::memset(to, 0, static_cast<size_t>(job.block.tile_bytes));  // rows of padding, and planes that are or-ed into
    for (int row = 0; row < job.rows_of(tile); ++row)
      Format<dtype>::pack(job.source + job.row_offset(tile, row, index), to, row);
  }
}

template <int32_t dtype>
void unpack_tile(const Job& job, int64_t tile) {
  for (int64_t index = 0; index < job.num_blocks; ++index)
    for (int row = 0; row < job.rows_of(tile); ++row)
      Format<dtype>::unpack(job.source + job.tile_offset(tile, index), row,
                            job.destination + job.row_offset(tile, row, index));
}

template <void (*handle)(const Job&, int64_t)>
int32_t each_tile(const PxCall* call, const PxThread* thread) {
  constexpr int64_t chunk = 8;
  const Job job(call);
  const int64_t num_tiles = job.num_tiles();
  for (int64_t first; (first = perfx_claim(thread, 0, chunk)) < num_tiles;)
    for (int64_t tile = first; tile < first + chunk && tile < num_tiles; ++tile) handle(job, tile);
  return PX_OK;
}

struct Kernels {
  PxKernelFn pack;
  PxKernelFn unpack;
};

Kernels kernels_for(int32_t dtype) {
  const auto choose = [](auto constant) -> Kernels {
    constexpr int32_t value = decltype(constant)::value;
    return {each_tile<pack_tile<value>>, each_tile<unpack_tile<value>>};
  };
  return linear::is_quantized(dtype) ? linear::for_quantized(dtype, choose) : linear::for_float(dtype, choose);
}

PxTensor weight(int32_t dtype, int64_t rows, int64_t columns, const void* data) {
  PxTensor tensor = {};
  tensor.data = const_cast<void*>(data);  // a PxTensor is input and output alike
  tensor.dtype = dtype;
  tensor.ndim = 2;
  tensor.shape[0] = rows;
  tensor.shape[1] = columns;
  return tensor;
}

int32_t run(PxPool* pool, PxKernelFn kernel, const PxTensor& source, const PxTensor& destination) {
  const PxTensor operands[2] = {source, destination};
  PxCall call = {};
  call.num_inputs = 1;
  call.num_operands = 2;
  call.operands = operands;
  return perfx_pool_run(pool, kernel, &call);
}

}  // namespace
}  // namespace packing
}  // namespace perfx

extern "C" {

int64_t perfx_packed_bytes(int32_t dtype, int64_t rows, int64_t columns) {
  const PxBlock block = perfx_block(dtype);
  if (block.columns == 0 || rows < 0 || columns < 0 || columns % block.columns != 0) return -1;
  int64_t tile_bytes, bytes;
  if (__builtin_mul_overflow(columns / block.columns, int64_t{block.tile_bytes}, &tile_bytes)) return -1;
  const int64_t num_tiles = rows / PERFX_TILE_ROWS + (rows % PERFX_TILE_ROWS != 0);
  if (__builtin_mul_overflow(num_tiles, tile_bytes, &bytes)) return -1;
  return bytes;
}

int32_t perfx_pack(PxPool* pool, int32_t dtype, int64_t rows, int64_t columns, const void* source, void* packed) {
  using namespace perfx::packing;
  if (perfx_packed_bytes(dtype, rows, columns) < 0) return PX_INVALID_ARGUMENT;
  PxTensor destination = weight(dtype, rows, columns, packed);
  destination.layout = PX_TILE16;
  return run(pool, kernels_for(dtype).pack, weight(dtype, rows, columns, source), destination);
}

int32_t perfx_unpack(PxPool* pool, int32_t dtype, int64_t rows, int64_t columns, const void* packed, void* rows_out) {
  using namespace perfx::packing;
  if (perfx_packed_bytes(dtype, rows, columns) < 0) return PX_INVALID_ARGUMENT;
  PxTensor source = weight(dtype, rows, columns, packed);
  source.layout = PX_TILE16;
  return run(pool, kernels_for(dtype).unpack, source, weight(dtype, rows, columns, rows_out));
}

}  // extern "C"
