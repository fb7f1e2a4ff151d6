/* kv_write: keys and values of tokens into the blocks of a cache, k_cache [block, head, dim, place] and v_cache
 * [block, head, place, dim]. A slot is block * block_size + place; -1 stands for none. */

#include "lanes.h"

/* For many tokens: a kernel of its own before the one that writes. */
KERNEL check_slots(CONST_OPERAND(int, slots), int tokens, int num_slots, FAULT_PARAMETERS) {
  OPEN_CONST(int, slots);
  int token = GLOBAL_ID(0);
  if (token < tokens && (slots[token] < -1 || slots[token] >= num_slots)) FAULT();
}

/* A work-group writes one head of one token. Of few tokens (`checked` is 0) each group checks all slots by itself. */
KERNEL_OF(GROUP, 1, 1)
kv_write(CONST_OPERAND(float, k), CONST_OPERAND(float, v), CONST_OPERAND(int, slots), OPERAND(STORAGE(CACHE), k_cache),
         OPERAND(STORAGE(CACHE), v_cache), int tokens, int num_slots, int dim, int block_size, int64_t k_token,
         int64_t k_head, int64_t v_token, int64_t v_head, int checked, FAULT_PARAMETERS) {
  OPEN_CONST(float, k);
  OPEN_CONST(float, v);
  OPEN_CONST(int, slots);
  OPEN(STORAGE(CACHE), k_cache);
  OPEN(STORAGE(CACHE), v_cache);
  int64_t token = GROUP_ID(0), head = GROUP_ID(1);
  int wrong = 0;
  for (int other = 0; other < tokens && !checked; other++) wrong |= slots[other] < -1 || slots[other] >= num_slots;
  if (wrong && LOCAL_ID(0) == 0) FAULT();
  if (wrong || IS_FAULTY) return; /* the word is read only where no work-item of this kernel writes it */
  int slot = slots[token];
  if (slot < 0) return;
  int64_t block = (int64_t)(slot / block_size) * NUM_GROUPS(1) + head, place = slot % block_size;
  k += token * k_token + head * k_head;
  v += token * v_token + head * v_head;
  k_cache += block * dim * block_size + place;
  v_cache += (block * block_size + place) * dim;
  int whole = WIDTH == 1 ? 0 : dim / WIDTH * WIDTH; /* items that go by vectors */
  for (int item = 0; item < whole; item += WIDTH) {
    STORE_ITEMS(CACHE, LOAD_LANES(k + item), k_cache + (int64_t)item * block_size, block_size);
    STORE_ITEMS(CACHE, LOAD_LANES(v + item), v_cache + item, 1);
  }
  for (int item = whole + LOCAL_ID(0); item < dim; item += GROUP) {
    STORE(CACHE, k[item], k_cache, (int64_t)item * block_size);
    STORE(CACHE, v[item], v_cache, item);
  }
}
