/* The parts of attention: a few query rows of one request against one partition of its keys. See attention.h. */

#include "lanes.h"

#define PARTITION 128
#define CHUNK 16 /* positions that lie in one block; BLOCK is a multiple */
#define CHUNKS (PARTITION / CHUNK)
#define ROWS (TOKENS * HEADS)
#if WIDTH == 1
#define SCORE_WIDTH 1
#define MIX_WIDTH 1
#define LANE (LOCAL_ID(0) % CHUNK)
#else /* so many vectors at once that their sums fill the registers */
#define SCORE_WIDTH (ROWS <= 4 ? 4 : ROWS <= 8 ? 2 : 1)
#define MIX_WIDTH (ROWS <= 4 && DIM % 64 == 0 ? 4 : ROWS <= 8 && DIM % 32 == 0 ? 2 : 1)
#define LANE 0
#endif
#define LOWEST -3.402823466e+38f /* below every score, and finite: the difference of two of them is 0 */

/* cap * tanh(x / cap) */
DEVICE floats capped(floats x, float cap) {
  floats power = exp_of_negative(-2.0f * fabs(x / cap));
  return copysign(cap * (1.0f - power) / (1.0f + power), x);
}

/* The operands, and the tile of a work-group. */
struct Tile {
  GLOBAL const STORAGE(CACHE) * keys; /* of this kv head in block 0 */
  GLOBAL const STORAGE(CACHE) * values;
  GLOBAL const int* blocks; /* of the request */
  int64_t block_step;       /* elements from a block to the next */
  int num_blocks;
  int first_token, num_tokens, first_position; /* num_tokens is 0 where the work-group has nothing to do */
  int window;
  float scale, softcap;
};

DEVICE int first_visible(struct Tile tile) {
  return tile.window > 0 ? max(0, tile.first_position - tile.window + 1) : 0;
}

DEVICE int first_partition(struct Tile tile) { return first_visible(tile) / PARTITION; }

DEVICE int end_partition(struct Tile tile) {
  return (tile.first_position + tile.num_tokens + PARTITION - 1) / PARTITION;
}

/* The block of a chunk of positions, kept within the cache: `find_tile` has told of wrong ones. */
DEVICE int64_t block_of(struct Tile tile, int chunk) {
  return min(max(tile.blocks[chunk / (BLOCK / CHUNK)], 0), tile.num_blocks - 1);
}

/* Finds the tile of a number, those of a request side by side; `fault` is set where a request is out of range. */
DEVICE int find_tile(struct Tile* tile, int number, GLOBAL const int* query_start, GLOBAL const int* kv_len,
                     int num_requests, int num_tokens, GLOBAL const int* table, int table_width) {
  int wrong = query_start[0] != 0;
  tile->num_tokens = tile->first_token = tile->first_position = 0;
  for (int request = 0; request < num_requests && !wrong; request++) {
    int start = query_start[request], stop = query_start[request + 1], length = kv_len[request];
    wrong = start > stop || stop > num_tokens || length < stop - start || length > (int64_t)table_width * BLOCK;
    int tiles = (stop - start + TOKENS - 1) / TOKENS;
    if (number >= 0 && number < tiles) {
      tile->first_token = start + number * TOKENS;
      tile->num_tokens = min(stop - tile->first_token, TOKENS);
      tile->first_position = length - (stop - tile->first_token);
      tile->blocks = table + (int64_t)request * table_width;
    }
    number -= tiles;
  }
  if (wrong) tile->num_tokens = 0;
  int end = (tile->first_position + tile->num_tokens + BLOCK - 1) / BLOCK;
  for (int block = LOCAL_ID(0); block < end && tile->num_tokens; block += GROUP)
    wrong |= tile->blocks[block] < 0 || tile->blocks[block] >= tile->num_blocks;
  return wrong;
}

/* queries[row][d] of a tile; rows that are not there are 0. */
DEVICE void load_queries(struct Tile tile, GLOBAL const float* q, int64_t token_step, int64_t head_step,
                         LOCAL float* queries) {
  for (int row = 0; row < ROWS; row++) {
    int is_there = row / HEADS < tile.num_tokens;
    GLOBAL const float* x = q + (is_there ? tile.first_token + row / HEADS : 0) * token_step + row % HEADS * head_step;
    for (int d = LOCAL_ID(0); d < DIM; d += GROUP) queries[row * DIM + d] = is_there ? x[d] : 0;
  }
}

/* weights[row][position]: the products of queries and keys of a partition. */
DEVICE void score(struct Tile tile, int partition, LOCAL const float* queries, LOCAL float* weights) {
  int first_chunk = first_visible(tile) / CHUNK, last_chunk = (tile.first_position + tile.num_tokens - 1) / CHUNK;
  for (int place = FIRST_LANE; place < PARTITION; place += LANES * SCORE_WIDTH) {
    int position = partition * PARTITION + place;
    floats sums[SCORE_WIDTH][ROWS];
    GLOBAL const STORAGE(CACHE) * keys[SCORE_WIDTH];
#pragma unroll
    for (int part = 0; part < SCORE_WIDTH; part++) {
      /* a chunk that no row sees is not read, but the nearest that some row sees */
      int chunk = min(max(position / CHUNK + part, first_chunk), last_chunk);
      keys[part] = tile.keys + block_of(tile, chunk) * tile.block_step + chunk % (BLOCK / CHUNK) * CHUNK + LANE;
#pragma unroll
      for (int row = 0; row < ROWS; row++) sums[part][row] = BROADCAST(0.0f);
    }
    int is_seen = position / CHUNK <= last_chunk && position / CHUNK + SCORE_WIDTH > first_chunk;
    for (int d = 0; d < DIM && is_seen; d++) {
#pragma unroll
      for (int part = 0; part < SCORE_WIDTH; part++) {
        floats items = LOAD_ITEMS(CACHE, keys[part] + d * BLOCK);
#pragma unroll
        for (int row = 0; row < ROWS; row++)
          sums[part][row] = fma(items, BROADCAST(queries[row * DIM + d]), sums[part][row]);
      }
    }
#pragma unroll
    for (int part = 0; part < SCORE_WIDTH; part++) {
#pragma unroll
      for (int row = 0; row < ROWS; row++)
        STORE_LANES(sums[part][row], weights + row * PARTITION + place + part * LANES);
    }
  }
}

/* What products of a row at `positions` are as scores: minus infinity where it does not see a position. */
DEVICE floats visible(struct Tile tile, int row, floats products, ints positions) {
  int last = row / HEADS < tile.num_tokens ? tile.first_position + row / HEADS : -1;
  int before = tile.window > 0 ? last - tile.window : -1;
  floats x = products * tile.scale;
  if (tile.softcap != 0) x = capped(x, tile.softcap);
  return ((positions <= last) & (positions > before)) ? x : BROADCAST(-INFINITY);
}

/* Products to exp(score - largest). largest[row] and sums[row] are the row's in this partition. `scratch` has a number
 * for each row and chunk. */
#if WIDTH == CHUNK
DEVICE void soften(struct Tile tile, int partition, LOCAL float* weights, LOCAL float* scratch, LOCAL float* largest,
                   LOCAL float* sums) {
  for (int row = 0; row < ROWS; row++, weights += PARTITION) {
    floats most = BROADCAST(LOWEST), sum = BROADCAST(0.0f);
    for (int place = 0; place < PARTITION; place += LANES) {
      floats x = visible(tile, row, LOAD_LANES(weights + place), partition * PARTITION + place + LANE_NUMBERS);
      STORE_LANES(x, weights + place);
      most = fmax(most, x);
    }
    largest[row] = max_of_lanes(most);
    for (int place = 0; place < PARTITION; place += LANES) {
      floats power = exp_of_negative(LOAD_LANES(weights + place) - largest[row]);
      STORE_LANES(power, weights + place);
      sum += power;
    }
    sums[row] = sum_of_lanes(sum);
  }
}
#else
DEVICE void soften(struct Tile tile, int partition, LOCAL float* weights, LOCAL float* scratch, LOCAL float* largest,
                   LOCAL float* sums) {
  for (int item = LOCAL_ID(0); item < ROWS * CHUNKS; item += GROUP) {
    float most = LOWEST;
    for (int place = item * CHUNK; place < item * CHUNK + CHUNK; place++) {
      int position = partition * PARTITION + place % PARTITION;
      weights[place] = visible(tile, item / CHUNKS, weights[place], position);
      most = fmax(most, weights[place]);
    }
    scratch[item] = most;
  }
  BARRIER();
  for (int row = LOCAL_ID(0); row < ROWS; row += GROUP) {
    float most = LOWEST;
    for (int part = 0; part < CHUNKS; part++) most = fmax(most, scratch[row * CHUNKS + part]);
    largest[row] = most;
  }
  BARRIER();
  for (int item = LOCAL_ID(0); item < ROWS * CHUNKS; item += GROUP) {
    float most = largest[item / CHUNKS], sum = 0;
    for (int place = item * CHUNK; place < item * CHUNK + CHUNK; place++) {
      weights[place] = exp_of_negative(weights[place] - most);
      sum += weights[place];
    }
    scratch[item] = sum;
  }
  BARRIER();
  for (int row = LOCAL_ID(0); row < ROWS; row += GROUP) {
    float sum = 0;
    for (int part = 0; part < CHUNKS; part++) sum += scratch[row * CHUNKS + part];
    sums[row] = sum;
  }
  BARRIER();
}
#endif

/* sums[part][row] = the sum of weight * value over a partition, in the columns from d + part * LANES on. */
DEVICE void mix(struct Tile tile, int partition, LOCAL const float* weights, int d, floats sums[MIX_WIDTH][ROWS]) {
  int end = tile.first_position + tile.num_tokens, first = first_visible(tile);
#pragma unroll
  for (int part = 0; part < MIX_WIDTH; part++) {
#pragma unroll
    for (int row = 0; row < ROWS; row++) sums[part][row] = BROADCAST(0.0f);
  }
  for (int place = 0; place < PARTITION; place += CHUNK, weights += CHUNK) {
    int position = partition * PARTITION + place, places = min(end - position, CHUNK), chunk = position / CHUNK;
    if (places <= 0 || position + CHUNK <= first) continue;
    GLOBAL const STORAGE(CACHE)* value =
        tile.values + block_of(tile, chunk) * tile.block_step + chunk % (BLOCK / CHUNK) * CHUNK * DIM + d;
    for (int key = 0; key < places; key++, value += DIM) {
#pragma unroll
      for (int part = 0; part < MIX_WIDTH; part++) {
        floats items = LOAD_ITEMS(CACHE, value + part * LANES);
#pragma unroll
        for (int row = 0; row < ROWS; row++)
          sums[part][row] = fma(items, BROADCAST(weights[row * PARTITION + key]), sums[part][row]);
      }
    }
  }
}

/* Puts a partition's largest score and sum onto a row's totals; `keep` and `take` are what outputs are multiplied by.
 */
DEVICE void rescale(float* total_largest, float* total_sum, float largest, float sum, float* keep, float* take) {
  float now = fmax(*total_largest, largest);
  *keep = FIRST_OF_LANES(exp_of_negative(BROADCAST(*total_largest - now)));
  *take = FIRST_OF_LANES(exp_of_negative(BROADCAST(largest - now)));
  *total_sum = fma(*total_sum, *keep, sum * *take);
  *total_largest = now;
}

#define ATTENTION_PARAMETERS                                                                                           \
  CONST_OPERAND(float, q), CONST_OPERAND(STORAGE(CACHE), k_cache), CONST_OPERAND(STORAGE(CACHE), v_cache),             \
      CONST_OPERAND(int, query_start), CONST_OPERAND(int, kv_len), CONST_OPERAND(int, block_table), OPERAND(float, y), \
      int num_tokens, int num_requests, int table_width, int num_blocks, int heads, int kv_heads, int64_t q_token,     \
      int64_t q_head, float scale, int window, float softcap

/* Opens the operands and finds the tile GROUP_ID(0). Axis 1 counts kv heads and, in each, the HEADS of a tile. */
#define OPEN_TILE                                    \
  OPEN_CONST(float, q);                              \
  OPEN_CONST(STORAGE(CACHE), k_cache);               \
  OPEN_CONST(STORAGE(CACHE), v_cache);               \
  OPEN_CONST(int, query_start);                      \
  OPEN_CONST(int, kv_len);                           \
  OPEN_CONST(int, block_table);                      \
  OPEN(float, y);                                    \
  int first_head = GROUP_ID(1) * HEADS;              \
  int64_t kv_head = first_head / (heads / kv_heads); \
  struct Tile tile;                                  \
  tile.keys = k_cache + kv_head * DIM * BLOCK;       \
  tile.values = v_cache + kv_head * DIM * BLOCK;     \
  tile.block_step = (int64_t)kv_heads * DIM * BLOCK; \
  tile.num_blocks = num_blocks;                      \
  tile.window = window;                              \
  tile.scale = scale;                                \
  tile.softcap = softcap;                            \
  q += first_head * q_head;                          \
  y += (int64_t)first_head * DIM;                    \
  if (find_tile(&tile, GROUP_ID(0), query_start, kv_len, num_requests, num_tokens, block_table, table_width)) FAULT()

#define OPEN_SCRATCH                            \
  LOCAL_ARRAY(float, queries, DIM* ROWS);       \
  LOCAL_ARRAY(float, weights, PARTITION* ROWS); \
  LOCAL_ARRAY(float, scratch, CHUNKS* ROWS);    \
  LOCAL_ARRAY(float, largest, ROWS);            \
  LOCAL_ARRAY(float, sums, ROWS)
