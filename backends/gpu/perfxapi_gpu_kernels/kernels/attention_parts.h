/* paged_attention where tiles are few, as in decoding a single request: several work-groups share a tile's partitions,
 * and what they make of them is put together afterwards by the same operations as in attention.h. */

#include "attention_tile.h"

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
    soften(tile, partition, weights, scratch, largest, sums);
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
