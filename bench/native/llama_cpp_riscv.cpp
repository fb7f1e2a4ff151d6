// llama.cpp's products of one token with the rows of a quantized matrix: what `python -m bench.riscv` counts beside
// ours.
//
//   llama_cpp_riscv FORMAT ROWS COLUMNS CALLS
//
// At vectors of 256 bits llama.cpp repacks some formats into 16 rows side by side; elsewhere it multiplies row by row.
// Built against a checkout of llama.cpp, of which nothing is part of this project.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "ggml-backend.h"
#include "repack.h"

extern "C" {
using RowProduct = void(int columns, float* result, size_t, const void* row, size_t, const void* x, size_t, int);
RowProduct ggml_vec_dot_q4_0_q8_0, ggml_vec_dot_q5_0_q8_0, ggml_vec_dot_q8_0_q8_0, ggml_vec_dot_q4_K_q8_K,
    ggml_vec_dot_q6_K_q8_K;

// What the kernels' files refer to in code that is not called here.
int ggml_cpu_has_riscv_v() { return 1; }
float ggml_table_f32_f16[65536], ggml_table_f32_e8m0_half[256], ggml_table_f32_ue4m3[256];
ggml_backend_buffer_usage ggml_backend_buffer_get_usage(ggml_backend_buffer_t) { std::abort(); }
void ggml_backend_tensor_memset(ggml_tensor*, uint8_t, size_t, size_t) { std::abort(); }
void ggml_backend_tensor_set(ggml_tensor*, const void*, size_t, size_t) { std::abort(); }
void ggml_critical_section_start() { std::abort(); }
void ggml_critical_section_end() { std::abort(); }
}

namespace {

using TileProduct = void(int columns, float* results, size_t, const void* rows, const void* x, int tokens,
                         int num_rows);

struct Format {
  const char* name;
  size_t columns, bytes, activation_bytes;  // of a block
  RowProduct* row_product;
  TileProduct* tile_product;  // of 16 rows, at 256 bits
};
constexpr size_t kBytesQ8K = 4 + 256 + 32;
const Format kFormats[] = {
    {"q4_0", 32, 18, 34, ggml_vec_dot_q4_0_q8_0, ggml_gemv_q4_0_16x1_q8_0},
    {"q5_0", 32, 22, 34, ggml_vec_dot_q5_0_q8_0, nullptr},
    {"q8_0", 32, 34, 34, ggml_vec_dot_q8_0_q8_0, ggml_gemv_q8_0_16x1_q8_0},
    {"q4_k", 256, 144, kBytesQ8K, ggml_vec_dot_q4_K_q8_K, ggml_gemv_q4_K_16x1_q8_K},
    {"q6_k", 256, 210, kBytesQ8K, ggml_vec_dot_q6_K_q8_K, nullptr},
};

size_t vector_bits() {
  size_t bytes;
  asm("csrr %0, vlenb" : "=r"(bytes));
  return 8 * bytes;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  const int rows = std::atoi(argv[2]), columns = std::atoi(argv[3]);
  for (const Format& format : kFormats) {
    if (std::string(argv[1]) != format.name) continue;
    const size_t blocks = size_t(columns) / format.columns;
    std::vector<char> weights(blocks * format.bytes * rows, 0x11), x(blocks * format.activation_bytes, 0x11);
    std::vector<float> results(rows);
    for (int call = std::atoi(argv[4]); call > 0; --call) {
      if (vector_bits() == 256 && format.tile_product != nullptr) {
        format.tile_product(columns, results.data(), rows, weights.data(), x.data(), 1, rows);
        continue;
      }
      for (int row = 0; row < rows; ++row)
        format.row_product(columns, &results[row], 0, &weights[row * blocks * format.bytes], 0, x.data(), 0, 1);
    }
    return 0;
  }
  std::fprintf(stderr, "llama_cpp_riscv: there is no product for %s here\n", argv[1]);
  return 3;
}
