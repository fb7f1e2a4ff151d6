// perfx_pack and perfx_unpack: GGUF rows to the layouts of perfx/packing.h and back, without loss.
#define PERFX_VARIANT packing
#include <cmath>
#include <cstring>

#include "perfx/host.h"
#include "perfx/linear_formats.hpp"

namespace perfx {
namespace packing {
namespace {

using linear::Byte;
using linear::Format;
using linear::SplitBlock;

// The smallest vocabulary worth splitting: what is not larger stays in the caches.
constexpr int64_t kLeastSplitRows = 1 << 14;

// A call's operands are the source and the destination; the strided one has the rows that are moved, the attribute
// says which is the first of them in the packed one.
struct Job {
  const PxTensor& rows;
  linear::Weight packed;
  int64_t first, num_blocks;
  PxBlock block;

  Job(const PxCall* call, const PxTensor& rows_in, const PxTensor& packed_in)
      : rows(rows_in), packed(packed_in), first(call->attrs[0].i), block(perfx_block(rows.dtype)) {
    num_blocks = packed.columns / block.columns;
  }
  int64_t count() const { return rows.shape[0]; }
  int64_t num_tiles() const { return linear::ceil_divide(count(), PERFX_TILE_ROWS); }
  int rows_of(int64_t tile) const {
    return static_cast<int>(linear::smaller<int64_t>(count() - tile * PERFX_TILE_ROWS, PERFX_TILE_ROWS));
  }
  Byte* strided(int64_t tile, int row, int64_t index) const {
    return static_cast<Byte*>(rows.data) + ((tile * PERFX_TILE_ROWS + row) * num_blocks + index) * block.row_bytes;
  }
  int64_t packed_tile(int64_t tile) const { return first / PERFX_TILE_ROWS + tile; }
  Byte* tile_block(int64_t tile, int64_t index) const {
    return const_cast<Byte*>(packed.tile(packed_tile(tile))) + index * block.tile_bytes;
  }
  SplitBlock split_block(int64_t tile, int row, int64_t index) const {
    return {packed, first + tile * PERFX_TILE_ROWS + row, index};
  }
};

template <int32_t dtype>
void pack_tile(const Job& job, int64_t tile) {
  for (int64_t index = 0; index < job.num_blocks; ++index) {
    Byte* to = job.tile_block(tile, index);
    std::memset(to, 0, static_cast<size_t>(job.block.tile_bytes));  // rows of padding, and planes that are or-ed into
    for (int row = 0; row < job.rows_of(tile); ++row) Format<dtype>::pack(job.strided(tile, row, index), to, row);
  }
}

template <int32_t dtype>
void unpack_tile(const Job& job, int64_t tile) {
  for (int64_t index = 0; index < job.num_blocks; ++index)
    for (int row = 0; row < job.rows_of(tile); ++row)
      Format<dtype>::unpack(job.tile_block(tile, index), row, job.strided(tile, row, index));
}

void pack_split_tile(const Job& job, int64_t tile) {
  const linear::Weight& packed = job.packed;
  const int64_t target = job.packed_tile(tile);
  float norms[PERFX_TILE_ROWS] = {};
  std::memset(const_cast<Byte*>(packed.tile(target)), 0, static_cast<size_t>(packed.tile_bytes));
  std::memset(const_cast<Byte*>(packed.low_halves(target * PERFX_TILE_ROWS)), 0,
              static_cast<size_t>(PERFX_TILE_ROWS * perfx_split_row_bytes(packed.columns)));
  for (int row = 0; row < job.rows_of(tile); ++row) {
    int32_t largest = 0;
    for (int64_t index = 0; index < job.num_blocks; ++index) {
      const SplitBlock block = job.split_block(tile, row, index);
      block.pack(job.strided(tile, row, index));
      largest = linear::larger(largest, block.squared_norm());
    }
    norms[row] = std::nextafter(static_cast<float>(std::sqrt(static_cast<double>(largest)) / 2), INFINITY);
  }
  std::memcpy(const_cast<Byte*>(packed.norms(target)), norms, sizeof(norms));
}

void unpack_split_tile(const Job& job, int64_t tile) {
  for (int row = 0; row < job.rows_of(tile); ++row)
    for (int64_t index = 0; index < job.num_blocks; ++index)
      job.split_block(tile, row, index).unpack(job.strided(tile, row, index));
}

template <void (*handle)(const Job&, int64_t), int rows_operand>
int32_t each_tile(const PxCall* call, const PxThread* thread) {
  constexpr int64_t chunk = 8;
  const Job job(call, call->operands[rows_operand], call->operands[1 - rows_operand]);
  const int64_t num_tiles = job.num_tiles();
  for (int64_t first; (first = perfx_claim(thread, 0, chunk)) < num_tiles;)
    for (int64_t tile = first; tile < first + chunk && tile < num_tiles; ++tile) handle(job, tile);
  return PX_OK;
}

struct Kernels {
  PxKernelFn pack;
  PxKernelFn unpack;
};

Kernels kernels_for(int32_t dtype, int32_t layout) {
  if (layout == PX_SPLIT16) return {each_tile<pack_split_tile, 0>, each_tile<unpack_split_tile, 1>};
  const auto choose = [](auto constant) -> Kernels {
    constexpr int32_t value = decltype(constant)::value;
    return {each_tile<pack_tile<value>, 0>, each_tile<unpack_tile<value>, 1>};
  };
  return linear::is_quantized(dtype) ? linear::for_quantized(dtype, choose) : linear::for_float(dtype, choose);
}

PxTensor weight(int32_t dtype, int32_t layout, int64_t rows, int64_t columns, const void* data) {
  PxTensor tensor = {};
  tensor.data = const_cast<void*>(data);  // a PxTensor is input and output alike
  tensor.dtype = dtype;
  tensor.layout = layout;
  tensor.ndim = 2;
  tensor.shape[0] = rows;
  tensor.shape[1] = columns;
  return tensor;
}

int32_t run(PxPool* pool, PxKernelFn kernel, int64_t first, const PxTensor& source, const PxTensor& destination) {
  const PxTensor operands[2] = {source, destination};
  PxAttr attr = {};
  attr.i = first;
  PxCall call = {};
  call.num_inputs = 1;
  call.num_operands = 2;
  call.num_attrs = 1;
  call.operands = operands;
  call.attrs = &attr;
  return perfx_pool_run(pool, kernel, &call);
}

}  // namespace
}  // namespace packing
}  // namespace perfx

extern "C" {

int32_t perfx_packed_layout(int32_t dtype, int64_t rows, int64_t columns) {
  const bool is_split = dtype == PX_Q8_0 && rows >= perfx::packing::kLeastSplitRows && columns > 0;
  return is_split && columns % PERFX_SPLIT_COLUMNS == 0 ? PX_SPLIT16 : PX_TILE16;
}

int64_t perfx_packed_bytes(int32_t dtype, int32_t layout, int64_t rows, int64_t columns) {
  const PxBlock block = perfx_block(dtype);
  if (block.columns == 0 || rows < 0 || columns < 0 || columns % block.columns != 0) return -1;
  if (columns > INT64_MAX / 1024) return -1;
  int64_t tile_bytes = perfx_tile_bytes(dtype, columns), bytes;
  if (layout == PX_SPLIT16) {
    if (dtype != PX_Q8_0 || columns % PERFX_SPLIT_COLUMNS != 0) return -1;
    tile_bytes = perfx_split_tile_bytes(columns) + PERFX_TILE_ROWS * perfx_split_row_bytes(columns);
  } else if (layout != PX_TILE16) {
    return -1;
  }
  const int64_t num_tiles = rows / PERFX_TILE_ROWS + (rows % PERFX_TILE_ROWS != 0);
  if (__builtin_mul_overflow(num_tiles, tile_bytes, &bytes)) return -1;
  return bytes;
}

int32_t perfx_pack(PxPool* pool, int32_t dtype, int32_t layout, int64_t rows, int64_t columns, int64_t first,
                   int64_t count, const void* source, void* packed) {
  using namespace perfx::packing;
  if (perfx_packed_bytes(dtype, layout, rows, columns) < 0) return PX_INVALID_ARGUMENT;
  if (first < 0 || first % PERFX_TILE_ROWS != 0 || count < 0 || count > rows - first) return PX_INVALID_ARGUMENT;
  return run(pool, kernels_for(dtype, layout).pack, first, weight(dtype, PX_STRIDED, count, columns, source),
             weight(dtype, layout, rows, columns, packed));
}

int32_t perfx_unpack(PxPool* pool, int32_t dtype, int32_t layout, int64_t rows, int64_t columns, const void* packed,
                     void* rows_out) {
  using namespace perfx::packing;
  if (perfx_packed_bytes(dtype, layout, rows, columns) < 0) return PX_INVALID_ARGUMENT;
  return run(pool, kernels_for(dtype, layout).unpack, 0, weight(dtype, layout, rows, columns, packed),
             weight(dtype, PX_STRIDED, rows, columns, rows_out));
}

}  // extern "C"
