/* PX_TILE16: how a weight of N rows and K columns is stored for matrix-vector and matrix-matrix products.
 *
 * Rows are taken 16 at a time (a tile; the last one is padded with rows of zero). Tiles follow each other. Within a tile,
 * one block of columns follows another; in each block the 16 rows are interleaved so that a vector register holds the same
 * columns of several rows, and every instruction set reads the same bytes: 64-byte registers take 16 rows, 32-byte
 * ones rows 0-7 and 8-15, 16-byte ones four rows at a time.
 *
 * A *group* is 16 rows x 4 columns of 8-bit codes: byte 4 * row + column. A block of 32 columns has 8 groups. Codes are unsigned; a
 * symmetric format has a constant offset that is subtracted in integer arithmetic (value = (code - offset) * scale).
 *
 *   nibbles   4 x 64 bytes  byte i of vector v: group v in the low four bits, group v + 4 in the high four
 *   bit plane 8 x 8 bytes   bit i of 64-bit word g: the fifth bit of byte i of group g
 *   crumbs    2 x 64 bytes  byte i of vector v: bits 2j, 2j+1 hold the two high bits of byte i of group 4 v + j
 *
 *   format   block  contents of a block, in order                                                  offset  bytes a weight
 *   Q8_0     32     scale f16[16]; 8 groups (code = int8 + 128)                                    128     1.0625
 *   Q5_0     32     scale f16[16]; nibbles; bit plane                                              16      0.6875
 *   Q4_0     32     scale f16[16]; nibbles                                                         8       0.5625
 *   Q4_K     256    d f16[16]; dmin f16[16]; scale u8[8][16]; min u8[8][16]; 8 x nibbles           0       0.578125
 *                   value = d * scale * code - dmin * min, one scale and min for each 32 columns
 *   Q6_K     256    d f16[16]; scale i8[16][16]; 8 x (nibbles; crumbs)                             32      0.8203125
 *                   value = d * scale * (code - 32), one scale for each 16 columns (4 groups)
 *   F32, F16, BF16  1   value[16]                                                                  0       itemsize
 *
 * Each block's size is a multiple of 32 bytes; a packed weight begins on a 64-byte boundary.
 */
#ifndef PERFX_PACKING_H
#define PERFX_PACKING_H

#define PERFX_TILE_ROWS 16

#endif
