/* argsort: a radix sort of (key, index) pairs by one byte of the key after another, the lowest first (Knuth, "The Art
 * of Computer Programming" 3, 5.2.5), which is stable. Threads share long lines; short lines are sorted by one thread
 * each.
 */
#ifndef PERFX_KERNELS_SORT_HPP
#define PERFX_KERNELS_SORT_HPP

#include "perfx/kernels/gather.hpp"

namespace perfx {
namespace PERFX_VARIANT {

constexpr int64_t kDigits = 256;
/* A line shorter than this is not worth a second thread, nor memory for each of very many. */
constexpr int64_t kSharedLine = 1 << 15;

/* Unsigned numbers in the order of the elements: equal elements have equal keys, NaN the highest. */
template <class T>
struct KeyOf {
  using Type = typename std::make_unsigned<T>::type;
  static Type of(T x) { return Type(Type(x) ^ (std::is_signed<T>::value ? Type(1) << (8 * sizeof(T) - 1) : Type(0))); }
};
template <class T, class Bits>
struct FloatKey {
  using Type = Bits;
  static Bits of(T x) {
    constexpr Bits kSign = Bits(1) << (8 * sizeof(T) - 1);
    Bits bits;
    const T plain = x == 0 ? T(0) : x;
    memcpy(&bits, &plain, sizeof(bits));
    if (x != x) return ~Bits(0);
    return bits & kSign ? ~bits : bits | kSign;
  }
};
template <>
struct KeyOf<float> : FloatKey<float, uint32_t> {};
template <>
struct KeyOf<double> : FloatKey<double, uint64_t> {};

template <class Key>
struct Keyed {
  Key key;
  uint32_t index;
};

/* What one line is sorted in: two arrays of pairs, and for each thread the counts of digits of two passes. */
template <class Key>
struct SortSpace {
  SortSpace(void* memory, int64_t size, int32_t threads)
      : from(static_cast<Keyed<Key>*>(memory)),
        to(from + size),
        counts(reinterpret_cast<uint32_t*>(static_cast<char*>(memory) + pairs(size))),
        num_threads(threads) {}
  static int64_t pairs(int64_t size) { return divide_up(2 * size * int64_t(sizeof(Keyed<Key>)), 64) * 64; }
  static int64_t bytes(int64_t size, int32_t threads) {
    return pairs(size) + 2 * kDigits * int64_t(sizeof(uint32_t)) * threads;
  }
  uint32_t* counts_of(int pass, int32_t thread) const { return counts + (pass % 2 * num_threads + thread) * kDigits; }

  Keyed<Key>*from, *to;
  uint32_t* counts;
  int32_t num_threads;
};

/* Where the thread's pairs of each digit go. False where all pairs of all threads have one digit. */
template <class Key>
inline bool places_of_digits(const SortSpace<Key>& space, int pass, int64_t size, const PxThread* thread,
                             uint32_t* places) {
  uint32_t before = 0;
  for (int64_t digit = 0; digit < kDigits; ++digit) {
    const uint32_t first = before;
    for (int32_t t = 0; t < thread->count; ++t) {
      if (t == thread->index) places[digit] = before;
      before += space.counts_of(pass, t)[digit];
    }
    if (int64_t(before - first) == size) return false;
  }
  return true;
}

/* Sorts the pairs; the sorted ones are in space.from. All threads of `thread` take part. */
template <class Key>
inline void sort_pairs(SortSpace<Key>& space, int64_t size, Range part, const PxThread* thread) {
  uint32_t places[kDigits];
  for (int pass = 0; pass < int(sizeof(Key)); ++pass) {
    uint32_t* counts = space.counts_of(pass, thread->index);
    memset(counts, 0, kDigits * sizeof(uint32_t));
    for (int64_t i = part.begin; i < part.end; ++i) ++counts[space.from[i].key >> 8 * pass & 0xff];
    thread->barrier(thread);
    if (!places_of_digits(space, pass, size, thread, places)) continue;
    for (int64_t i = part.begin; i < part.end; ++i) {
      const Keyed<Key> pair = space.from[i];
      space.to[places[pair.key >> 8 * pass & 0xff]++] = pair;
    }
    thread->barrier(thread);
    Keyed<Key>* const sorted = space.to;
    space.to = space.from;
    space.from = sorted;
  }
}

/* The lines of an operand along an axis. */
struct Lines {
  Lines(const PxTensor& x, int64_t axis)
      : size(x.shape[axis]),
        count(size == 0 ? 0 : num_elements(x) / size),
        along{nullptr, kItemBytes[x.dtype], 0, {}, {}} {
    inner = 1;
    for (int a = int(axis) + 1; a < x.ndim; ++a) inner *= x.shape[a];
    along.add(size, x.strides[axis]);
    starts = {static_cast<char*>(x.data), along.item, 0, {}, {}};
    for (int a = x.ndim - 1; a >= 0; --a) {
      if (a != axis) starts.add(x.shape[a], x.strides[a]);
    }
  }
  int64_t size, count, inner; /* `inner`: elements of the result from one of a line to the next */
  Walk along, starts;
};

template <class T>
inline void sort_line(const Lines& lines, int64_t line, bool descending, Convert convert, int64_t* y, void* memory,
                      int32_t max_threads, const PxThread* thread) {
  using Key = typename KeyOf<T>::Type;
  SortSpace<Key> space(memory, lines.size, max_threads);
  const Range part = share(lines.size, kBlock, thread);
  const Key flip = descending ? Key(~Key(0)) : Key(0);
  Walk along = lines.along;
  along.data = Cursor(lines.starts, line).at();
  if (part.begin < part.end) {
    Reader reader;
    reader.start(along, convert, part.begin);
    reader.repeat_number(int64_t(sizeof(T)), kBlock);
    for (int64_t i = part.begin, count; i < part.end; i += count) {
      count = reader.at_once(smaller(kBlock, part.end - i));
      const T* x = reinterpret_cast<const T*>(reader.read(count));
      for (int64_t j = 0; j < count; ++j) space.from[i + j] = {Key(KeyOf<T>::of(x[j]) ^ flip), uint32_t(i + j)};
    }
  }
  sort_pairs(space, lines.size, part, thread);
  int64_t* out = y + line / lines.inner * lines.inner * lines.size + line % lines.inner;
  for (int64_t i = part.begin; i < part.end; ++i) out[i * lines.inner] = space.from[i].index;
}

inline void alone(const PxThread*) {}

template <class T>
inline int32_t sort_lines(const PxCall* call, const PxThread* thread, Convert convert) {
  using Key = typename KeyOf<T>::Type;
  const Lines lines(call->operands[0], call->attrs[0].i);
  int64_t* y = static_cast<int64_t*>(call->operands[1].data);
  const bool descending = call->attrs[1].i != 0, shared = lines.size >= kSharedLine;
  const int64_t bytes = SortSpace<Key>::bytes(lines.size, shared ? thread->count : 1);
  if (call->workspace_bytes < bytes * (shared ? 1 : thread->count)) return PX_OUT_OF_MEMORY;
  char* memory = static_cast<char*>(call->workspace);
  if (shared) {
    for (int64_t line = 0; line < lines.count; ++line) {
      sort_line<T>(lines, line, descending, convert, y, memory, thread->count, thread);
      thread->barrier(thread); /* the next line uses the same memory */
    }
    return PX_OK;
  }
  const PxThread solo{0, 1, alone, thread->pool, thread->counters};
  const Range part = share(lines.count, larger(1, 1024 / larger(1, lines.size)), thread);
  for (int64_t line = part.begin; line < part.end; ++line) {
    sort_line<T>(lines, line, descending, convert, y, memory + bytes * thread->index, 1, &solo);
  }
  return PX_OK;
}

inline int32_t accepts_argsort(const PxCall* call) {
  if (!has_signature(call, 1, 1, 2)) return PX_UNSUPPORTED;
  const PxTensor &x = call->operands[0], &y = call->operands[1];
  const int64_t axis = call->attrs[0].i;
  const bool ok = is_plain(x) && x.dtype < kNumReal && axis >= 0 && axis < x.ndim && x.shape[axis] <= UINT32_MAX &&
                  is_plain_dense(y) && y.dtype == PX_INT64;
  return ok ? PX_OK : PX_UNSUPPORTED;
}
/* Enough for lines of any length up to this one, shared or not. */
inline int64_t argsort_workspace(const PxCall* call, int32_t num_threads) {
  const int64_t size = call->operands[0].shape[call->attrs[0].i];
  const int64_t each = SortSpace<uint64_t>::bytes(smaller(size, kSharedLine), 1) * num_threads;
  return larger(each, SortSpace<uint64_t>::bytes(size, num_threads));
}
inline int32_t run_argsort(const PxCall* call, const PxThread* thread) {
  const int32_t dtype = call->operands[0].dtype;
  int32_t status = PX_OK;
  with_real(dtype, [&](auto element) {
    status = sort_lines<decltype(element)>(call, thread, conversion(dtype, computed_in(dtype)));
  });
  return status;
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
