/* Packed weights, and the product of some tiles of them with some tokens.
 *
 * A packed weight (bindings/packing.py) is three sections, one after another: codes, scales, minima. Rows come in tiles
 * of LANES: of each tile the words of its rows lie side by side, LANES 32-bit words for each few columns, so that
 * work-items that are lanes read memory in one piece. Scales and minima lie likewise, LANES for each block of columns.
 * A row is
 *
 *   value = scale * (code - ZERO) - minimum     for codes of 4 and 8 bits; floating-point numbers stand for themselves
 *
 * A format is the compile-time arguments (form, block, scale, minimum): what a word holds, columns a block, bytes of a
 * scale (0: none, 2: half, 4: float), and whether there are minima.
 *
 * Defined outside: WIDTH, LANES, TILES a work-item multiplies, TOKENS a work-item multiplies with, SLICES of the blocks
 * that work-items of a group share. The order of additions: within a block, columns ascending, from 0; blocks of a
 * slice ascending; slices ascending. It does not depend on TILES and TOKENS. */
#include "vectors.h"

#define CODES4 4      /* offset binary, 8 a word, the first in the low bits */
#define CODES4_OF_8 5 /* the same less 8 */
#define CODES8 8      /* two's complement, 4 a word */
#define FLOAT16 16
#define BFLOAT16 17
#define FLOAT32 32

#define FORMAT_PARAMETERS const int form, const int block, const int scale_bytes, const int has_minimum
#define FORMAT_ARGUMENTS form, block, scale_bytes, has_minimum

DEVICE int columns_of_word(const int form) {
  return form == CODES4 || form == CODES4_OF_8 ? 8 : form == CODES8 ? 4 : form == FLOAT32 ? 1 : 2;
}

DEVICE int columns_of_format(FORMAT_PARAMETERS) { return columns_of_word(form); }

/* Nibbles without a conversion: put where the mantissa of a power of two counts them as units. */
DEVICE floats nibbles_to_floats(uints words, const int nibble, const float zero) {
  const int shift = nibble < 5 ? 4 * nibble : 4 * nibble - 12;
  uints placed = (nibble < 5 ? words : words >> 12) & (15u << shift);
  return AS_FLOATS(placed | (uint32_t)(127 + 23 - shift) << 23) - ((float)(1 << (23 - shift)) + zero);
}

/* The numbers of a column of the words. */
DEVICE floats decode(const int form, uints words, const int column) {
  if (form == CODES4) return nibbles_to_floats(words, column, 0.0f);
  if (form == CODES4_OF_8) return nibbles_to_floats(words, column, 8.0f);
  if (form == CODES8) return TO_FLOATS(AS_INTS(words << (24 - 8 * column)) >> 24);
  if (form == FLOAT16) return halves_to_floats(words >> (16 * column) & 0xffffu);
  if (form == BFLOAT16) return AS_FLOATS(column ? words & 0xffff0000u : words << 16);
  return AS_FLOATS(words);
}

/* The places of a tile's parts, of lane `lane` on. */
typedef struct {
  GLOBAL const uint32_t* words;
  GLOBAL const uchar* scales;
  GLOBAL const float* minima;
} Tile;

DEVICE Tile tile_of(FORMAT_PARAMETERS, GLOBAL const uchar* packed, int64_t num_tiles, int columns, int64_t tile,
                    int lane) {
  int64_t words = (int64_t)(columns / columns_of_word(form)) * LANES;
  int64_t blocks = (int64_t)(columns / block) * LANES;
  GLOBAL const uchar* scales = packed + num_tiles * words * 4;
  Tile found;
  found.words = (GLOBAL const uint32_t*)packed + tile * words + lane;
  found.scales = scales + (tile * blocks + lane) * scale_bytes;
  found.minima = (GLOBAL const float*)(scales + num_tiles * blocks * scale_bytes) + tile * blocks + lane;
  return found;
}

DEVICE floats scales_at(const int scale_bytes, GLOBAL const uchar* scales, int64_t block) {
  GLOBAL const uchar* at = scales + block * LANES * scale_bytes;
  return scale_bytes == 2 ? LOAD_HALF_LANES((GLOBAL const uint16_t*)at) : LOAD_LANES((GLOBAL const float*)at);
}

/* The sum of a token's numbers in a block of columns: `sums` has those of each SUM_COLUMNS. */
#define SUM_COLUMNS 16
DEVICE float block_sum(const int block, GLOBAL const float* sums, int at) {
  float sum = 0;
  for (int part = 0; part < block / SUM_COLUMNS; part++) sum += sums[at * (block / SUM_COLUMNS) + part];
  return sum;
}

/* Words whose products are written out one after another: more would take compilers long. */
#define UNROLLED_WORDS (TOKENS > 2 ? 1 : 4)

/* Adds to `parts` the products of one block of columns of TILES tiles. */
DEVICE void multiply_block(FORMAT_PARAMETERS, const Tile* tiles, GLOBAL const float* const* x, int at,
                           floats parts[TILES][TOKENS]) {
  const int columns = columns_of_word(form);
#pragma unroll UNROLLED_WORDS
  for (int word = 0; word < block / columns; word++) {
    uints words[TILES];
#pragma unroll
    for (int tile = 0; tile < TILES; tile++)
      words[tile] = LOAD_LANES(tiles[tile].words + ((int64_t)at * (block / columns) + word) * LANES);
#pragma unroll
    for (int column = 0; column < columns; column++) {
      floats numbers[TILES];
#pragma unroll
      for (int tile = 0; tile < TILES; tile++) numbers[tile] = decode(form, words[tile], column);
#pragma unroll
      for (int token = 0; token < TOKENS; token++) {
        floats factor = (floats)(x[token][at * block + word * columns + column]);
#pragma unroll
        for (int tile = 0; tile < TILES; tile++) parts[tile][token] = fma(numbers[tile], factor, parts[tile][token]);
      }
    }
  }
}

/* totals = the products of TILES tiles with TOKENS tokens, over every SLICES-th block from `slice` on. `x` and `sums`
 * point to each token's numbers and sums. */
DEVICE void multiply_tiles(FORMAT_PARAMETERS, const Tile* tiles, GLOBAL const float* const* x,
                           GLOBAL const float* const* sums, int columns, int slice, floats totals[TILES][TOKENS]) {
#pragma unroll
  for (int tile = 0; tile < TILES; tile++)
#pragma unroll
    for (int token = 0; token < TOKENS; token++) totals[tile][token] = 0;
  for (int at = slice; at < columns / block; at += SLICES) {
    floats parts[TILES][TOKENS];
#pragma unroll
    for (int tile = 0; tile < TILES; tile++)
#pragma unroll
      for (int token = 0; token < TOKENS; token++) parts[tile][token] = 0;
    multiply_block(FORMAT_ARGUMENTS, tiles, x, at, parts);
#pragma unroll
    for (int tile = 0; tile < TILES; tile++) {
      floats scale = 1;
      if (scale_bytes) scale = scales_at(scale_bytes, tiles[tile].scales, at);
#pragma unroll
      for (int token = 0; token < TOKENS; token++)
        totals[tile][token] = fma(parts[tile][token], scale, totals[tile][token]);
      if (has_minimum) {
        floats minimum = -LOAD_LANES(tiles[tile].minima + (int64_t)at * LANES);
#pragma unroll
        for (int token = 0; token < TOKENS; token++)
          totals[tile][token] = fma(minimum, (floats)(block_sum(block, sums[token], at)), totals[tile][token]);
      }
    }
  }
}

#if WIDTH == 1
/* One number of a packed row. */
DEVICE float number_at(FORMAT_PARAMETERS, const Tile* tile, int word, int column) {
  int at = word * columns_of_word(form) / block;
  float number = decode(form, tile->words[(int64_t)word * LANES], column);
  if (scale_bytes) number *= scales_at(scale_bytes, tile->scales, at);
  return has_minimum ? number - tile->minima[(int64_t)at * LANES] : number;
}
#endif
