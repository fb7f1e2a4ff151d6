// perfx_pack and perfx_unpack: GGUF rows to PX_TILE16 (perfx/packing.h) and back, without loss.
//
// A row's part of a group of a tile is one 32-bit word, the codes of columns 4 g .. 4 g + 3, one a byte. So every quantized
// block is handled 32 columns at a time as eight such words, and nibbles and crumbs are split and joined on whole words.
#include "perfx/packing.h"

#include <cstring>

#include "perfx/host.h"

namespace perfx {
namespace {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "GGUF and PX_TILE16 are little-endian");

using Byte = unsigned char;

inline uint32_t load32(const Byte* from) {
  uint32_t word;
  std::memcpy(&word, from, 4);
  return word;
}
inline void store32(Byte* to, uint32_t word) { std::memcpy(to, &word, 4); }
inline void copy16(const Byte* from, Byte* to) { std::memcpy(to, from, 2); }

constexpr uint32_t kNibble = 0x0f0f0f0f;
constexpr uint32_t kCrumb = 0x03030303;

struct Codes {
  uint32_t group[8];
};

// ---- the parts of a tile's block, seen from one row

void store_nibbles(const Codes& codes, Byte* nibbles, int row) {
  for (int v = 0; v < 4; ++v) {
    const uint32_t low = codes.group[v] & kNibble, high = codes.group[v + 4] & kNibble;
    store32(nibbles + 64 * v + 4 * row, low | high << 4);
  }
}
Codes load_nibbles(const Byte* nibbles, int row) {
  Codes codes;
  for (int v = 0; v < 4; ++v) {
    const uint32_t both = load32(nibbles + 64 * v + 4 * row);
    codes.group[v] = both & kNibble;
    codes.group[v + 4] = both >> 4 & kNibble;
  }
  return codes;
}

void store_crumbs(const Codes& codes, Byte* crumbs, int row) {
  for (int v = 0; v < 2; ++v) {
    uint32_t word = 0;
    for (int j = 0; j < 4; ++j) word |= (codes.group[4 * v + j] >> 4 & kCrumb) << 2 * j;
    store32(crumbs + 64 * v + 4 * row, word);
  }
}
void add_crumbs(const Byte* crumbs, int row, Codes& codes) {
  for (int v = 0; v < 2; ++v) {
    const uint32_t word = load32(crumbs + 64 * v + 4 * row);
    for (int j = 0; j < 4; ++j) codes.group[4 * v + j] |= (word >> 2 * j & kCrumb) << 4;
  }
}

// ---- the formats: one block of one row to its place in a tile (whose bytes are zero before), and back

template <int32_t dtype>
struct Format;

template <>
struct Format<PX_Q8_0> {
  static constexpr uint32_t kSign = 0x80808080;  // int8 to the same number plus 128

  static void pack(const Byte* block, Byte* tile, int row) {
    copy16(block, tile + 2 * row);
    for (int g = 0; g < 8; ++g) store32(tile + 32 + 64 * g + 4 * row, load32(block + 2 + 4 * g) ^ kSign);
  }
  static void unpack(const Byte* tile, int row, Byte* block) {
    copy16(tile + 2 * row, block);
    for (int g = 0; g < 8; ++g) store32(block + 2 + 4 * g, load32(tile + 32 + 64 * g + 4 * row) ^ kSign);
  }
};

template <>
struct Format<PX_Q5_0> {
  static void pack(const Byte* block, Byte* tile, int row) {
    copy16(block, tile + 2 * row);
    const uint32_t high = load32(block + 2);
    for (int v = 0; v < 4; ++v) store32(tile + 32 + 64 * v + 4 * row, load32(block + 6 + 4 * v));
    for (int g = 0; g < 8; ++g) {
      Byte& both = tile[288 + 8 * g + row / 2];
      both = static_cast<Byte>(both | (high >> 4 * g & 15) << (row & 1) * 4);
    }
  }
  static void unpack(const Byte* tile, int row, Byte* block) {
    copy16(tile + 2 * row, block);
    uint32_t high = 0;
    for (int g = 0; g < 8; ++g) high |= (tile[288 + 8 * g + row / 2] >> (row & 1) * 4 & 15u) << 4 * g;
    store32(block + 2, high);
    for (int v = 0; v < 4; ++v) store32(block + 6 + 4 * v, load32(tile + 32 + 64 * v + 4 * row));
  }
};

template <>
struct Format<PX_Q4_0> {
  static void pack(const Byte* block, Byte* tile, int row) {
    copy16(block, tile + 2 * row);
    for (int v = 0; v < 4; ++v) store32(tile + 32 + 64 * v + 4 * row, load32(block + 2 + 4 * v));
  }
  static void unpack(const Byte* tile, int row, Byte* block) {
    copy16(tile + 2 * row, block);
    for (int v = 0; v < 4; ++v) store32(block + 2 + 4 * v, load32(tile + 32 + 64 * v + 4 * row));
  }
};

// A GGUF block is d, dmin, 12 bytes of six-bit scales and minimums, then 4 x 32 bytes: the low nibbles of a run of 32 are
// one sub-block, its high nibbles the next.
template <>
struct Format<PX_Q4_K> {
  static void pack(const Byte* block, Byte* tile, int row) {
    copy16(block, tile + 2 * row);
    copy16(block + 2, tile + 32 + 2 * row);
    const Byte* six = block + 4;
    for (int s = 0; s < 4; ++s) {
      tile[64 + 16 * s + row] = six[s] & 63;
      tile[192 + 16 * s + row] = six[s + 4] & 63;
      tile[64 + 16 * (s + 4) + row] = static_cast<Byte>((six[s + 8] & 15) | six[s] >> 6 << 4);
      tile[192 + 16 * (s + 4) + row] = static_cast<Byte>(six[s + 8] >> 4 | six[s + 4] >> 6 << 4);
    }
    for (int s = 0; s < 8; ++s) {
      Codes codes;
      for (int g = 0; g < 8; ++g) codes.group[g] = load32(block + 16 + 32 * (s / 2) + 4 * g) >> 4 * (s & 1) & kNibble;
      store_nibbles(codes, tile + 320 + 256 * s, row);
    }
  }
  static void unpack(const Byte* tile, int row, Byte* block) {
    copy16(tile + 2 * row, block);
    copy16(tile + 32 + 2 * row, block + 2);
    Byte* six = block + 4;
    for (int s = 0; s < 4; ++s) {
      const int scale = tile[64 + 16 * (s + 4) + row], minimum = tile[192 + 16 * (s + 4) + row];
      six[s] = static_cast<Byte>(tile[64 + 16 * s + row] | scale >> 4 << 6);
      six[s + 4] = static_cast<Byte>(tile[192 + 16 * s + row] | minimum >> 4 << 6);
      six[s + 8] = static_cast<Byte>((scale & 15) | (minimum & 15) << 4);
    }
    for (int s = 0; s < 8; s += 2) {
      const Codes low = load_nibbles(tile + 320 + 256 * s, row), high = load_nibbles(tile + 576 + 256 * s, row);
      for (int g = 0; g < 8; ++g) store32(block + 16 + 16 * s + 4 * g, low.group[g] | high.group[g] << 4);
    }
  }
};

// A GGUF block is 128 bytes of low nibbles, 64 bytes of high crumbs, 16 scales, d. Sub-block s of 32 columns lies in half
// s / 4, where p = s % 4 picks the run of 32 nibble bytes (p & 1), the nibble (p >> 1) and the crumb (p).
template <>
struct Format<PX_Q6_K> {
  static void pack(const Byte* block, Byte* tile, int row) {
    copy16(block + 208, tile + 2 * row);
    for (int i = 0; i < 16; ++i) tile[32 + 16 * i + row] = block[192 + i];
    for (int s = 0; s < 8; ++s) {
      const Byte* low = block + 64 * (s / 4) + 32 * (s & 1);
      const Byte* high = block + 128 + 32 * (s / 4);
      Codes codes;
      for (int g = 0; g < 8; ++g) {
        const uint32_t nibbles = load32(low + 4 * g) >> 2 * (s & 2) & kNibble;
        codes.group[g] = nibbles | (load32(high + 4 * g) >> 2 * (s % 4) & kCrumb) << 4;
      }
      store_nibbles(codes, tile + 288 + 384 * s, row);
      store_crumbs(codes, tile + 544 + 384 * s, row);
    }
  }
  static void unpack(const Byte* tile, int row, Byte* block) {
    copy16(tile + 2 * row, block + 208);
    for (int i = 0; i < 16; ++i) block[192 + i] = tile[32 + 16 * i + row];
    std::memset(block, 0, 192);
    for (int s = 0; s < 8; ++s) {
      Codes codes = load_nibbles(tile + 288 + 384 * s, row);
      add_crumbs(tile + 544 + 384 * s, row, codes);
      Byte* low = block + 64 * (s / 4) + 32 * (s & 1);
      Byte* high = block + 128 + 32 * (s / 4);
      for (int g = 0; g < 8; ++g) {
        store32(low + 4 * g, load32(low + 4 * g) | (codes.group[g] & kNibble) << 2 * (s & 2));
        store32(high + 4 * g, load32(high + 4 * g) | (codes.group[g] >> 4 & kCrumb) << 2 * (s % 4));
      }
    }
  }
};

template <int bytes>
struct FloatFormat {
  static void pack(const Byte* block, Byte* tile, int row) { std::memcpy(tile + bytes * row, block, bytes); }
  static void unpack(const Byte* tile, int row, Byte* block) { std::memcpy(block, tile + bytes * row, bytes); }
};
template <>
struct Format<PX_FLOAT32> : FloatFormat<4> {};
template <>
struct Format<PX_FLOAT16> : FloatFormat<2> {};
template <>
struct Format<PX_BFLOAT16> : FloatFormat<2> {};

// ---- all tiles of a weight, shared out among the pool's threads

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

template <int32_t dtype>
constexpr Kernels kernels_of() {
  return {each_tile<pack_tile<dtype>>, each_tile<unpack_tile<dtype>>};
}

Kernels kernels_for(int32_t dtype) {
  switch (dtype) {
    case PX_Q8_0: return kernels_of<PX_Q8_0>();
    case PX_Q5_0: return kernels_of<PX_Q5_0>();
    case PX_Q4_0: return kernels_of<PX_Q4_0>();
    case PX_Q4_K: return kernels_of<PX_Q4_K>();
    case PX_Q6_K: return kernels_of<PX_Q6_K>();
    case PX_FLOAT32: return kernels_of<PX_FLOAT32>();
    case PX_FLOAT16: return kernels_of<PX_FLOAT16>();
    default: return kernels_of<PX_BFLOAT16>();
  }
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
  using namespace perfx;
  if (perfx_packed_bytes(dtype, rows, columns) < 0) return PX_INVALID_ARGUMENT;
  PxTensor destination = weight(dtype, rows, columns, packed);
  destination.layout = PX_TILE16;
  return run(pool, kernels_for(dtype).pack, weight(dtype, rows, columns, source), destination);
}

int32_t perfx_unpack(PxPool* pool, int32_t dtype, int64_t rows, int64_t columns, const void* packed, void* rows_out) {
  using namespace perfx;
  if (perfx_packed_bytes(dtype, rows, columns) < 0) return PX_INVALID_ARGUMENT;
  PxTensor source = weight(dtype, rows, columns, packed);
  source.layout = PX_TILE16;
  return run(pool, kernels_for(dtype).unpack, source, weight(dtype, rows, columns, rows_out));
}

}  // extern "C"
