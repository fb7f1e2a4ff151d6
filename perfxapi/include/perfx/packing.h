/* PX_TILE16: how a weight of N rows and K columns is stored for matrix-vector and matrix-matrix products.
 *
 * Rows are taken 16 at a time (a tile; the last one is padded with rows of zero). Tiles follow each other. Within a
 * tile, one block of columns follows another; in each block the 16 rows are interleaved so that a vector register holds
 * the same columns of several rows, and every instruction set reads the same bytes: 64-byte registers take 16 rows,
 * 32-byte ones rows 0-7 and 8-15, 16-byte ones four rows at a time.
 *
 * A *group* is 16 rows x 4 columns of 8-bit codes: byte 4 * row + column. A block of 32 columns has 8 groups. Codes are
 * unsigned; a symmetric format has a constant offset that is subtracted in integer arithmetic (value = (code - offset)
 * * scale).
 *
 *   nibbles   4 x 64 bytes  byte i of vector v: group v in the low four bits, group v + 4 in the high four
 *   bit plane 8 x 8 bytes   bit i of 64-bit word g: one more bit of byte i of group g
 *   crumbs    2 x 64 bytes  byte i of vector v: bits 2j, 2j+1 hold two bits of byte i of group 4 v + j
 *
 *   format   block  contents of a block, in order                                                  offset  bytes a
 * weight Q8_0     32     scale f16[16]; 8 groups (code = int8 + 128)                                    128     1.0625
 *   Q5_0     32     scale f16[16]; nibbles; bit plane                                              16      0.6875
 *   Q4_0     32     scale f16[16]; nibbles                                                         8       0.5625
 *   Q5_1     32     scale f16[16]; min f16[16]; nibbles; bit plane                                 0       0.75
 *   Q4_1     32     scale f16[16]; min f16[16]; nibbles                                            0       0.625
 *                   value = scale * code + min
 *   IQ4_NL   32     scale f16[16]; nibbles, which stand for the codes of a table                   128     0.5625
 *   MXFP4    32     exponent u8[16]; nibbles, which stand for the codes of a table                 16      0.53125
 *                   value = 2^(exponent - 128) * (code - 16)
 *   INT4_G128 128   scale f16[16]; zero u8[16]; 4 x nibbles                                        0       0.5234375
 *                   value = scale * code - scale * zero, one scale and zero for each 128 columns
 *   Q2_K     256    d f16[16]; dmin f16[16]; scale and min u4[16][16]; 8 x crumbs                  0       0.328125
 *                   value = d * scale * code - dmin * min, one scale and min for each 16 columns
 *   Q3_K     256    d f16[16]; scale i8[16][16]; 8 x (crumbs; bit plane)                           32      0.4453125
 *                   value = d * scale * (code - 32), one scale for each 16 columns; codes are 28 to 35
 *   Q4_K     256    d f16[16]; dmin f16[16]; scale u8[8][16]; min u8[8][16]; 8 x nibbles           0       0.578125
 *   Q5_K     256    the same, with 8 x (nibbles; bit plane)                                        0       0.703125
 *                   value = d * scale * code - dmin * min, one scale and min for each 32 columns
 *   Q6_K     256    d f16[16]; scale i8[16][16]; 8 x (nibbles; crumbs)                             32      0.8203125
 *                   value = d * scale * (code - 32), one scale for each 16 columns (4 groups)
 *   IQ4_XS   256    d f16[16]; scale i8[8][16]; 8 x nibbles, which stand for the codes of a table  128     0.5390625
 *                   value = d * scale * (code - 128), one scale for each 32 columns
 *   Q8_K     256    d f32[16]; 8 x 8 groups (code = int8 + 128); block sums i16[16][16]            128     1.140625
 *   F32, F16, BF16  1   value[16]                                                                  0       itemsize
 *
 * Each block's size is a multiple of 16 bytes; a packed weight begins on a 64-byte boundary.
 *
 * Rows as stored (PX_STRIDED) are GGUF's blocks. INT4_G128 is asymmetric int4 as AWQ and GPTQ checkpoints have it, in
 * blocks of 67 bytes: scale f16; zero u8 (0 to 15); 4 x 16 bytes, byte j of which holds the code of column 32 v + j in
 * its low four bits and that of column 32 v + 16 + j in the high ones.
 *
 * PX_SPLIT16: the same for a vocabulary in Q8_0 whose columns are a multiple of 128. Its codes (int8 + 128) are split
 * into a high and a low nibble, so that most rows can be ruled out by half of their bytes (linear_screen.hpp).
 *
 *   for each tile     nibbles of the high halves, as above, for each 32 columns; scale f16[columns / 32][16];
 *                     norm f32[16]: the largest norm of (low nibble - 7.5) over the row's blocks, rounded up
 *   after all tiles   for each row, padding included, and each 32 columns 16 bytes: byte i holds the low halves of
 *                     columns i (in its low four bits) and i + 16
 */
#ifndef PERFX_PACKING_H
#define PERFX_PACKING_H

#include "perfx/abi.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PERFX_TILE_ROWS 16
#define PERFX_MAX_TILE_BLOCK_BYTES 4672 /* of Q8_K */

/* Sizes of one block of a format: its columns, its bytes in one PX_STRIDED row, its bytes in a tile of 16 rows. */
typedef struct PxBlock {
  int32_t columns; /* 0: the dtype has no PX_TILE16 form */
  int32_t row_bytes;
  int32_t tile_bytes;
} PxBlock;

static inline PxBlock perfx_block(int32_t dtype) {
  PxBlock block = {0, 0, 0};
  switch (dtype) {
    case PX_Q8_0:
      block.columns = 32, block.row_bytes = 34, block.tile_bytes = 544;
      break;
    case PX_Q5_0:
      block.columns = 32, block.row_bytes = 22, block.tile_bytes = 352;
      break;
    case PX_Q4_0:
      block.columns = 32, block.row_bytes = 18, block.tile_bytes = 288;
      break;
    case PX_Q4_1:
      block.columns = 32, block.row_bytes = 20, block.tile_bytes = 320;
      break;
    case PX_Q5_1:
      block.columns = 32, block.row_bytes = 24, block.tile_bytes = 384;
      break;
    case PX_IQ4_NL:
      block.columns = 32, block.row_bytes = 18, block.tile_bytes = 288;
      break;
    case PX_MXFP4:
      block.columns = 32, block.row_bytes = 17, block.tile_bytes = 272;
      break;
    case PX_INT4_G128:
      block.columns = 128, block.row_bytes = 67, block.tile_bytes = 1072;
      break;
    case PX_Q2_K:
      block.columns = 256, block.row_bytes = 84, block.tile_bytes = 1344;
      break;
    case PX_Q3_K:
      block.columns = 256, block.row_bytes = 110, block.tile_bytes = 1824;
      break;
    case PX_Q4_K:
      block.columns = 256, block.row_bytes = 144, block.tile_bytes = 2368;
      break;
    case PX_Q5_K:
      block.columns = 256, block.row_bytes = 176, block.tile_bytes = 2880;
      break;
    case PX_Q6_K:
      block.columns = 256, block.row_bytes = 210, block.tile_bytes = 3360;
      break;
    case PX_IQ4_XS:
      block.columns = 256, block.row_bytes = 136, block.tile_bytes = 2208;
      break;
    case PX_Q8_K:
      block.columns = 256, block.row_bytes = 292, block.tile_bytes = 4672;
      break;
    case PX_FLOAT32:
      block.columns = 1, block.row_bytes = 4, block.tile_bytes = 64;
      break;
    case PX_FLOAT16:
    case PX_BFLOAT16:
      block.columns = 1, block.row_bytes = 2, block.tile_bytes = 32;
      break;
    default:
      break;
  }
  return block;
}

/* Bytes of one tile of 16 rows and `columns` columns (a whole number of blocks). */
static inline int64_t perfx_tile_bytes(int32_t dtype, int64_t columns) {
  const PxBlock block = perfx_block(dtype);
  return columns / block.columns * block.tile_bytes;
}

/* Of PX_SPLIT16: bytes of one tile but for the low halves, and bytes of one row's low halves. */
#define PERFX_SPLIT_COLUMNS 128
static inline int64_t perfx_split_tile_bytes(int64_t columns) { return columns / 32 * 288 + 64; }
static inline int64_t perfx_split_row_bytes(int64_t columns) { return columns / 2; }

#ifdef __cplusplus
}
#endif
#endif
