/* paged_attention: softmax(scale * q k^T) v over a paged cache, any mixture of prefill and decode.
 *
 * A tile is TOKENS tokens of one request and HEADS query heads that share a kv head: its ROWS rows are worked on by one
 * work-group, to load keys and values once for all. Positions are cut into partitions, the same for every row at all
 * times. What a row sees of a partition is summed over ascending positions, relative to its largest score there, and
 * then put onto the row's totals of the partitions before, rescaled to the larger maximum (Milakov and Gimelshein,
 * 2018). So the bits of a row depend neither on its tile nor on whether one work-group walks over all partitions
 * (here) or several share them (attention_parts.h).
 *
 * k_cache is [block, head, DIM, BLOCK], v_cache [block, head, BLOCK, DIM]. */

#include "attention_tile.h"

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
    soften(tile, partition, weights, scratch, largest, sums);
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
