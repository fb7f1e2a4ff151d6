/* paged_attention: softmax(scale * q k^T) v over a paged cache, any mixture of prefill and decode.
 *
 * A tile is TOKENS tokens of one request and HEADS query heads that share a kv head: its ROWS rows are worked on by one
 * work-group, to load keys and values once for all. Positions are cut into partitions, the same for every row at all
 * times. What a row sees of a partition is summed over ascending positions, relative to its largest score there, and
 * then put onto the row's totals of the partitions before, rescaled to the larger maximum (Milakov and Gimelshein,
 * 2018). So the bits of a row depend neither on its tile nor on whether one work-group walks over all partitions
 * (`attend`) or several share them (`attend_parts`, then `merge_parts`).
 *
 * k_cache is [block, head, DIM, BLOCK], v_cache [block, head, BLOCK, DIM]. */

#include "attention_tile.h"

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

/* A work-group does a tile: all partitions, one after another. The totals of outputs stand in the result itself. */
KERNEL_OF(GROUP, 1, 1)
attend(ATTENTION_PARAMETERS, FAULT_PARAMETERS) {
  OPEN_TILE;
  OPEN_SCRATCH;
  LOCAL_ARRAY(float, total_largest, ROWS);
  LOCAL_ARRAY(float, total_sums, ROWS);
  LOCAL_ARRAY(float, keep, ROWS);
  LOCAL_ARRAY(float, take, ROWS);
  if (tile.num_tokens == 0) return;
  y += (int64_t)tile.first_token * heads * DIM;
  load_queries(tile, q, q_token, q_head, queries);
  for (int row = LOCAL_ID(0); row < ROWS; row += GROUP) total_largest[row] = LOWEST, total_sums[row] = 0;
  int first = first_partition(tile), end = end_partition(tile);
  for (int partition = first; partition < end; partition++) {
    LANES_BARRIER();
    score(tile, partition, queries, weights);
    LANES_BARRIER();
    soften(weights, scratch, largest, sums);
    for (int row = LOCAL_ID(0); row < ROWS; row += GROUP) {
      float most = total_largest[row], sum = total_sums[row], kept, taken;
      rescale(&most, &sum, largest[row], sums[row], &kept, &taken);
      total_largest[row] = most, total_sums[row] = sum, keep[row] = kept, take[row] = taken;
    }
    LANES_BARRIER();
    for (int d = FIRST_LANE; d < DIM; d += LANES * MIX_WIDTH) {
      floats mixed[MIX_WIDTH][ROWS];
      mix(tile, partition, weights, d, mixed);
#pragma unroll
      for (int row = 0; row < ROWS; row++) {
        if (row / HEADS >= tile.num_tokens) continue;
        GLOBAL float* total = y + (row / HEADS * (int64_t)heads + row % HEADS) * DIM + d;
#pragma unroll
        for (int part = 0; part < MIX_WIDTH; part++) {
          floats sum = mixed[part][row] * take[row];
          if (partition > first) sum = fma(LOAD_ITEMS(float32, total + part * LANES), BROADCAST(keep[row]), sum);
          STORE_LANES(sum, total + part * LANES);
        }
      }
    }
  }
  for (int row = 0; row < tile.num_tokens * HEADS; row++) {
    GLOBAL float* total = y + (row / HEADS * (int64_t)heads + row % HEADS) * DIM;
    for (int d = FIRST_LANE; d < DIM; d += LANES)
      STORE_LANES(LOAD_ITEMS(float32, total + d) * (1.0f / total_sums[row]), total + d);
  }
}

/* Memory for what a tile makes of its partitions: each ROWS outputs, then ROWS largest scores, then ROWS sums. */
#define PART_SIZE (ROWS * (DIM + 2))
#define PARTS_OF_TILE (parts + ((int64_t)GROUP_ID(0) * NUM_GROUPS(1) + GROUP_ID(1)) * max_parts * PART_SIZE)

/* Work-groups of axis 2 share the partitions of a tile. */
KERNEL_OF(GROUP, 1, 1)
attend_parts(ATTENTION_PARAMETERS, OPERAND(float, parts), int max_parts, FAULT_PARAMETERS) {
  OPEN_TILE;
  OPEN(float, parts);
  OPEN_SCRATCH;
  if (tile.num_tokens == 0) return;
  parts = PARTS_OF_TILE;
  load_queries(tile, q, q_token, q_head, queries);
  int first = first_partition(tile), end = end_partition(tile);
  for (int partition = first + GROUP_ID(2); partition < end; partition += NUM_GROUPS(2)) {
    LANES_BARRIER();
    score(tile, partition, queries, weights);
    LANES_BARRIER();
    soften(weights, scratch, largest, sums);
    GLOBAL float* part = parts + (int64_t)(partition - first) * PART_SIZE;
    for (int d = FIRST_LANE; d < DIM; d += LANES * MIX_WIDTH) {
      floats mixed[MIX_WIDTH][ROWS];
      mix(tile, partition, weights, d, mixed);
#pragma unroll
      for (int vector = 0; vector < MIX_WIDTH; vector++) {
#pragma unroll
        for (int row = 0; row < ROWS; row++) STORE_LANES(mixed[vector][row], part + row * DIM + d + vector * LANES);
      }
    }
    for (int row = LOCAL_ID(0); row < ROWS; row += GROUP) {
      part[ROWS * DIM + row] = largest[row];
      part[ROWS * DIM + ROWS + row] = sums[row];
    }
  }
}

/* A work-group of axis 2 puts together one row of a tile. */
KERNEL_OF(GROUP, 1, 1)
merge_parts(ATTENTION_PARAMETERS, OPERAND(float, parts), int max_parts, FAULT_PARAMETERS) {
  OPEN_TILE;
  OPEN(float, parts);
  int row = GROUP_ID(2);
  if (row / HEADS >= tile.num_tokens) return;
  parts = PARTS_OF_TILE;
  y += ((int64_t)(tile.first_token + row / HEADS) * heads + row % HEADS) * DIM;
  int count = end_partition(tile) - first_partition(tile);
  float most = LOWEST, sum = 0;
  floats totals[(DIM + LANES - 1) / LANES];
  for (int index = 0; index < count; index++) {
    GLOBAL const float* part = parts + (int64_t)index * PART_SIZE;
    float keep, take;
    rescale(&most, &sum, part[ROWS * DIM + row], part[ROWS * DIM + ROWS + row], &keep, &take);
#pragma unroll
    for (int vector = 0; vector < (DIM + LANES - 1) / LANES; vector++) {
      int d = FIRST_LANE + vector * LANES;
      if (d >= DIM) continue;
      floats taken = LOAD_ITEMS(float32, part + row * DIM + d) * take;
      totals[vector] = index == 0 ? taken : fma(totals[vector], BROADCAST(keep), taken);
    }
  }
#pragma unroll
  for (int vector = 0; vector < (DIM + LANES - 1) / LANES; vector++) {
    int d = FIRST_LANE + vector * LANES;
    if (d < DIM) STORE_LANES(totals[vector] * (1.0f / sum), y + d);
  }
}
