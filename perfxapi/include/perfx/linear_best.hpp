/* The k best logits of a row, kept as they come.
 *
 * Each thread keeps, for each row, the k best of the tiles it has seen in a heap whose root is the worst of them, so
 * that nearly all logits are refused by one comparison with the root. Then the heaps of a row are merged.
 */
#ifndef PERFX_LINEAR_BEST_HPP
#define PERFX_LINEAR_BEST_HPP

#include "perfx/linear_common.hpp"

namespace perfx {
namespace PERFX_VARIANT {
namespace linear {

constexpr int64_t kMaxTopK = 256;

struct Candidate {
  float value; /* what is ordered and returned; NaN is ordered as the largest */
  float logit; /* before the cap */
  int32_t id;
};

/* Does `a` come after `b` in the result? Larger values come first, of equal ones the lower id. */
inline bool is_worse(const Candidate& a, const Candidate& b) {
  const bool a_nan = a.value != a.value, b_nan = b.value != b.value;
  if (a_nan || b_nan) return a_nan && b_nan ? a.id > b.id : b_nan;
  return a.value < b.value || (a.value == b.value && a.id > b.id);
}

/* The best `capacity` candidates; the worst of them is the root. */
class Best {
 public:
  Best() = default;
  Best(Candidate* candidates, int32_t* size, int64_t capacity)
      : candidates_(candidates), size_(size), capacity_(int32_t(capacity)) {}

  int32_t size() const { return *size_; }
  const Candidate& operator[](int32_t index) const { return candidates_[index]; }
  bool is_full() const { return *size_ == capacity_; }
  /* Only a logit that is not <= this can enter, provided that ids ascend and a cap never decreases. */
  float bound() const { return candidates_[0].logit; }

  void offer(const Candidate& candidate) {
    if (!is_full()) {
      int32_t child = (*size_)++;
      for (; child > 0 && is_worse(candidate, candidates_[(child - 1) / 2]); child = (child - 1) / 2)
        candidates_[child] = candidates_[(child - 1) / 2];
      candidates_[child] = candidate;
    } else if (is_worse(candidates_[0], candidate)) {
      sift(candidate, *size_);
    }
  }
  /* Orders the candidates, best first. The heap is none afterwards. */
  void sort() {
    for (int32_t last = *size_ - 1; last > 0; --last) {
      const Candidate worst = candidates_[0];
      sift(candidates_[last], last);
      candidates_[last] = worst;
    }
  }

 private:
  /* Puts `candidate` in the root's place of a heap of `size`. */
  void sift(const Candidate& candidate, int32_t size) {
    int32_t place = 0;
    for (int32_t child; (child = 2 * place + 1) < size; place = child) {
      if (child + 1 < size && is_worse(candidates_[child + 1], candidates_[child])) ++child;
      if (!is_worse(candidates_[child], candidate)) break;
      candidates_[place] = candidates_[child];
    }
    candidates_[place] = candidate;
  }

  Candidate* candidates_;
  int32_t* size_;
  int32_t capacity_;
};

/* cap * tanh(logit / cap), rounded from float64 so that it never decreases where the logit grows. */
inline float soft_cap(float logit, double cap) {
  return cap == 0.0 ? logit : float(cap * std::tanh(double(logit) / cap));
}

/* The heaps of all threads, in the workspace. */
class Heaps {
 public:
  Heaps(Byte* memory, int64_t rows, int64_t k) : memory_(memory), rows_(rows), k_(k) {}
  static int64_t bytes(int64_t rows, int64_t k) {
    return round_to_line(rows * k * int64_t{sizeof(Candidate)}) + round_to_line(rows * 4);
  }
  Best at(int32_t thread, int64_t row) const {
    Byte* mine = memory_ + thread * bytes(rows_, k_);
    Byte* sizes = mine + round_to_line(rows_ * k_ * int64_t{sizeof(Candidate)});
    return {reinterpret_cast<Candidate*>(mine) + row * k_, reinterpret_cast<int32_t*>(sizes) + row, k_};
  }
  void clear(int32_t thread) const {
    std::memset(memory_ + (thread + 1) * bytes(rows_, k_) - round_to_line(rows_ * 4), 0, size_t(rows_) * 4);
  }

 private:
  Byte* memory_;
  int64_t rows_;
  int64_t k_;
};

/* Merges the threads' heaps of one row and writes the result. */
inline void merge_row(const Heaps& heaps, int32_t num_threads, int64_t row, float* values, int32_t* ids) {
  Best best = heaps.at(0, row);
  for (int32_t thread = 1; thread < num_threads; ++thread) {
    const Best other = heaps.at(thread, row);
    for (int32_t i = 0; i < other.size(); ++i) best.offer(other[i]);
  }
  best.sort();
  for (int32_t i = 0; i < best.size(); ++i) {
    values[i] = best[i].value;
    ids[i] = best[i].id;
  }
}

}  // namespace linear
}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
