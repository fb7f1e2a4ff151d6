/* The order of the elements of lines: blocks are sorted in local memory, then runs are merged until there is one.
 *
 * Elements become keys without sign whose order is theirs; equal ones keep their order, and NaN comes last (first,
 * where DESCENDING turns keys around). A merge is by rank: an element of the left run goes before those of the right
 * that are not less, an element of the right one after those of the left that are not greater (Knuth, The Art of
 * Computer Programming 3, 5.2.4, with a binary search for each element). */

#include "elements.h"
#include "walk.h"

#if KEY_BYTES == 8
typedef uint64_t key_type;
#else
typedef uint32_t key_type;
#endif
#define TOP_BIT ((key_type)1 << (KEY_BYTES * 8 - 1))

#if IS_FLOATING
#if KEY_BYTES == 8
#define ELEMENT uint64_t
#define KEY_BITS(pointer, index) ((pointer)[index])
#define INFINITE_KEY ((key_type)0x7ff0 << 48)
#else
#define ELEMENT STORAGE(A)
#define KEY_BITS(pointer, index) AS_UINT(LOAD(A, pointer, index))
#define INFINITE_KEY 0x7f800000u
#endif
#else
#define ELEMENT STORAGE(A)
#define KEY_BITS(pointer, index) ((key_type)LOAD(A, pointer, index))
#endif

DEVICE key_type key_of(key_type bits) {
#if IS_FLOATING
  key_type magnitude = bits & ~TOP_BIT;
  key_type key = magnitude > INFINITE_KEY ? ~(key_type)0
                 : magnitude == 0         ? TOP_BIT
                 : bits & TOP_BIT         ? ~bits
                                          : bits | TOP_BIT;
#elif IS_SIGNED
  key_type key = bits ^ TOP_BIT;
#else
  key_type key = bits;
#endif
  return DESCENDING ? ~key : key;
}

/* How many of `count` sorted keys come before `key`: those below it and, with `or_equal`, those equal to it. */
#define DEFINE_RANK(name, SPACE)                                                       \
  DEVICE int name(SPACE const key_type* keys, int count, key_type key, int or_equal) { \
    int low = 0, high = count;                                                         \
    while (low < high) {                                                               \
      int middle = (low + high) / 2;                                                   \
      if (keys[middle] < key || (or_equal && keys[middle] == key))                     \
        low = middle + 1;                                                              \
      else                                                                             \
        high = middle;                                                                 \
    }                                                                                  \
    return low;                                                                        \
  }
DEFINE_RANK(rank_in_block, LOCAL)
DEFINE_RANK(rank_in_run, GLOBAL)

/* Sorts each block of BLOCK elements of each line: a work-item has one element. */
KERNEL_OF(BLOCK, 1, 1)
sort_blocks(OPERAND(key_type, sorted_keys), OPERAND(int, sorted_places), CONST_OPERAND(ELEMENT, a), Walk kept,
            int length, int blocks, int64_t stride) {
  OPEN(key_type, sorted_keys);
  OPEN(int, sorted_places);
  OPEN_CONST(ELEMENT, a);
  LOCAL_ARRAY(key_type, keys, 2 * BLOCK);
  LOCAL_ARRAY(int, places, 2 * BLOCK);
  int line = GROUP_ID(0) / blocks, first = GROUP_ID(0) % blocks * BLOCK;
  int count = min(length - first, BLOCK), id = LOCAL_ID(0), from = 0;
  if (id < count) {
    keys[id] = key_of(KEY_BITS(a, place_of(&kept, 1, 0, line) + (first + id) * stride));
    places[id] = first + id;
  }
  BARRIER();
  for (int width = 1; width < BLOCK; width *= 2) {
    int to = BLOCK - from;
    if (id < count) {
      int run = id / width, other = (run ^ 1) * width;
      int rank =
          rank_in_block(keys + from + min(other, count), max(min(count - other, width), 0), keys[from + id], run & 1);
      int place = to + id % width + run / 2 * 2 * width + rank;
      keys[place] = keys[from + id];
      places[place] = places[from + id];
    }
    from = to;
    BARRIER();
  }
  if (id < count) {
    sorted_keys[(int64_t)line * length + first + id] = keys[from + id];
    sorted_places[(int64_t)line * length + first + id] = places[from + id];
  }
}

/* Merges runs of `width` elements two by two. */
KERNEL merge_runs(OPERAND(key_type, merged_keys), OPERAND(int, merged_places), CONST_OPERAND(key_type, keys),
                  CONST_OPERAND(int, places), int length, int width, int tiles) {
  OPEN(key_type, merged_keys);
  OPEN(int, merged_places);
  OPEN_CONST(key_type, keys);
  OPEN_CONST(int, places);
  int index = GROUP_ID(0) % tiles * LOCAL_SIZE(0) + LOCAL_ID(0);
  if (index >= length) return;
  int64_t start = (int64_t)(GROUP_ID(0) / tiles) * length;
  int run = index / width;
  int64_t other = (int64_t)(run ^ 1) * width;
  int theirs = (int)max(min((int64_t)length - other, (int64_t)width), (int64_t)0);
  key_type key = keys[start + index];
  int rank = rank_in_run(keys + start + min(other, (int64_t)length), theirs, key, run & 1);
  int64_t place = start + index % width + run / 2 * 2 * (int64_t)width + rank;
  merged_keys[place] = key;
  merged_places[place] = places[start + index];
}

/* The order as it is returned. */
KERNEL store_order(OPERAND(int64_t, out), CONST_OPERAND(int, places), Walk kept, int length, int tiles,
                   int64_t out_stride) {
  OPEN(int64_t, out);
  OPEN_CONST(int, places);
  int index = GROUP_ID(0) % tiles * LOCAL_SIZE(0) + LOCAL_ID(0), line = GROUP_ID(0) / tiles;
  if (index < length) out[place_of(&kept, 0, 0, line) + index * out_stride] = places[(int64_t)line * length + index];
}
