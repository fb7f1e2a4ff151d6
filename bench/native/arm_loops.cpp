// The kernels whose inner loops `python -m bench.arm` reads: compiled to assembly for one variant, never run.
#include "linear_simd_neon.hpp"
#include "simd_neon.hpp"

#include "perfx/kernels/attention_tile.hpp"
#include "perfx/linear_tile.hpp"
#include "perfx/matmul.hpp"

namespace perfx {
namespace PERFX_VARIANT {

/* Referring to a function compiles it. The name of each pointer is what bench/arm.py looks for. */
#define LOOP(name, ...) extern "C" auto* const loop_##name = __VA_ARGS__;

#define TILE(name, dtype, format, tokens) \
  LOOP(name, &linear::TileKernel<linear::Simd, linear::Source<linear::Simd, dtype>, format, tokens>::run)
#define EXPANDED_TILE(name, dtype, format, tokens)                                                                    \
  LOOP(name, &linear::TileKernel<linear::Simd, linear::ExpandedOf<linear::Simd, linear::Source<linear::Simd, dtype>>, \
                                 format, tokens>::run)

LOOP(matmul_tile, &matmul::multiply_tile<float, kProductRows, kProductVectors>)
LOOP(matmul_tile_float64, &matmul::multiply_tile<double, kProductRows, kProductVectors>)
LOOP(matmul_skinny, &matmul::multiply_in_place<float, kProductRows, kProductVectors>)
LOOP(matmul_vector, &matmul::multiply_rows_by_vector<float, matmul::kVectorRows>)
LOOP(attention_scores, &score_chunks<kTileRows, 1, float>)
LOOP(attention_scores_float16, &score_chunks<kTileRows, 1, uint16_t>)
LOOP(attention_values_float16, &add_columns<kTileRows, 1, uint16_t>)
TILE(q4_k_int16_1, PX_Q4_K, linear::kInt16, 1)
TILE(q4_k_int16_8, PX_Q4_K, linear::kInt16, 8)
TILE(q8_0_int16_1, PX_Q8_0, linear::kInt16, 1)
TILE(q8_0_int16_8, PX_Q8_0, linear::kInt16, 8)
EXPANDED_TILE(q4_k_expanded_int16_8, PX_Q4_K, linear::kInt16, 8)
EXPANDED_TILE(q8_0_expanded_int16_8, PX_Q8_0, linear::kInt16, 8)
#ifdef __ARM_FEATURE_DOTPROD /* else both formats have one layout, and one kernel */
TILE(q4_k_int8_1, PX_Q4_K, linear::kInt8, 1)
TILE(q4_k_int8_8, PX_Q4_K, linear::kInt8, 8)
TILE(q8_0_int8_1, PX_Q8_0, linear::kInt8, 1)
TILE(q8_0_int8_8, PX_Q8_0, linear::kInt8, 8)
EXPANDED_TILE(q4_k_expanded_int8_8, PX_Q4_K, linear::kInt8, 8)
EXPANDED_TILE(q8_0_expanded_int8_8, PX_Q8_0, linear::kInt8, 8)
#endif

}  // namespace PERFX_VARIANT
}  // namespace perfx
