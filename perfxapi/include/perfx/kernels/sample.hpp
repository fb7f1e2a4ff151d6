/* sample: one token for each row of logits, after temperature, min_p, top_k and top_p.
 *
 * Weights are exp((logit - largest) / temperature) in float32; they are added up in two floats per lane and in float64
 * (Knuth's two-sum), so that long tails count. Nothing sorts the vocabulary: top_k takes its candidates from
 * select.hpp; top_p alone first measures the mass above eight thresholds and takes the candidates above one that
 * suffices.
 */
#ifndef PERFX_KERNELS_SAMPLE_HPP
#define PERFX_KERNELS_SAMPLE_HPP

#include <string.h>

#include "perfx/kernels/math.hpp"
#include "perfx/kernels/select.hpp"

namespace perfx {
namespace PERFX_VARIANT {

inline int32_t accepts_sample(const PxCall* call) {
  if (!has_signature(call, 6, 1, 0)) return PX_UNSUPPORTED;
  const PxTensor* t = call->operands;
  if (!is_rows(t[0], PX_FLOAT32, 2) || t[0].shape[1] < 1 || t[0].shape[1] > INT32_MAX) return PX_UNSUPPORTED;
  for (int i = 1; i <= 6; ++i) {
    if (!is_dense(t[i], i == 2 || i == 6 ? PX_INT32 : PX_FLOAT32, 1) || t[i].shape[0] != t[0].shape[0]) {
      return PX_UNSUPPORTED;
    }
  }
  return PX_OK;
}

inline int64_t sample_workspace(const PxCall* call, int32_t num_threads) {
  return select_workspace(call->operands[0].shape[0], call->operands[0].shape[1], num_threads);
}

/* The parameters of one row, and what is known of it. */
struct Draw {
  const float* logits;
  int64_t size;
  float inverse_temperature; /* infinite: the largest logit alone */
  int64_t top_k;             /* size where all are allowed */
  double top_p;
  float least; /* log(min_p), or -inf: exponents below it have no weight */
  double uniform;
  float largest;

  /* (logit - largest) / temperature */
  F exponents(F logits_in) const { return (logits_in - set(largest)) * set(inverse_temperature); }
};

constexpr int kNumThresholds = 8;
constexpr float kThresholds[kNumThresholds] = {-0.5f, -1.0f, -2.0f, -3.0f, -4.5f, -6.5f, -9.0f, -12.5f};

/* a + b = sum + error exactly */
inline F two_sum(F a, F b, F* error) {
  const F sum = a + b, b_part = sum - a;
  *error = (a - (sum - b_part)) + (b - b_part);
  return sum;
}

/* Weights of n logits; 0 where an exponent is below `least` or NaN. */
inline F weigh(const Draw& draw, F exponents, int n) {
  const M kept = both(first(n), less_equal(set(draw.least), exponents));
  return select(kept, exp(exponents), set(0.0f));
}

/* Adds up the weights of each segment; `with_thresholds` also those above each threshold, roughly. */
inline void measure(const Draw& draw, bool with_thresholds, const SelectSpace& space, const PxThread* thread) {
  for_each_segment(draw.size, thread, [&](int64_t segment, int64_t begin, int64_t count) {
    F sum = set(0.0f), errors = set(0.0f), above[kNumThresholds];
    for (int t = 0; t < kNumThresholds; ++t) above[t] = set(0.0f);
    for_each_vector(count, [&](int64_t i, int n) {
      const F exponents = draw.exponents(load_n(draw.logits + begin + i, n));
      const F weights = weigh(draw, exponents, n);
      F error;
      sum = two_sum(sum, weights, &error);
      errors = errors + error;
      if (!with_thresholds) return;
      for (int t = 0; t < kNumThresholds; ++t) {
        above[t] = above[t] + select(less_equal(set(kThresholds[t]), exponents), weights, set(0.0f));
      }
    });
    float sums[kLanes], corrections[kLanes];
    store(sums, sum);
    store(corrections, errors);
    double mass = 0;
    for (int lane = 0; lane < kLanes; ++lane) mass += double(sums[lane]) + double(corrections[lane]);
    space.masses[segment] = mass;
    for (int t = 0; with_thresholds && t < kNumThresholds; ++t) {
      space.partial_masses[segment * kLanes + t] = reduce_add(above[t]);
    }
  });
}

inline double total_mass(const Draw& draw, const SelectSpace& space) {
  double total = 0;
  for (int64_t s = 0; s < num_segments(draw.size); ++s) total += space.masses[s];
  return total;
}

/* The highest threshold with safely more mass above it than top_p asks for, as a logit; all logits if there is none. */
inline float sufficient_bound(const Draw& draw, const SelectSpace& space) {
  const double wanted = draw.top_p * total_mass(draw, space) * 1.0001;
  for (int t = 0; t < kNumThresholds; ++t) {
    double above = 0;
    for (int64_t s = 0; s < num_segments(draw.size); ++s) above += double(space.partial_masses[s * kLanes + t]);
    /* a little lower, so that rounding cannot lose an item that was counted */
    if (above >= wanted) return draw.largest + (kThresholds[t] - 0.01f) / draw.inverse_temperature;
  }
  return -INFINITY;
}

/* The id at which the running sum of all weights passes uniform * total. */
inline int32_t pick_from_row(const Draw& draw, const SelectSpace& space) {
  const double target = draw.uniform * total_mass(draw, space);
  int64_t final_segment = num_segments(draw.size) - 1;
  while (final_segment > 0 && !(space.masses[final_segment] > 0)) --final_segment;
  double running = 0;
  int32_t last = 0;
  for (int64_t s = 0; s <= final_segment; ++s) {
    if (running + space.masses[s] <= target && s < final_segment) {
      running += space.masses[s];
      continue;
    }
    const int64_t begin = s * kSegment, count = smaller(kSegment, draw.size - begin);
    int32_t picked = -1;
    for_each_vector(count, [&](int64_t i, int n) {
      if (picked >= 0) return;
      float weights[kLanes];
      store(weights, weigh(draw, draw.exponents(load_n(draw.logits + begin + i, n)), n));
      for (int lane = 0; lane < n && picked < 0; ++lane) {
        running += double(weights[lane]);
        if (weights[lane] > 0) last = int32_t(begin + i + lane);
        if (running > target) picked = last;
      }
    });
    if (picked >= 0) return picked;
  }
  return last; /* rounding left the sum a hair below */
}

/* Puts the candidates in the order of Before and numbers them; space.ids keeps the id of each. */
inline void rank_candidates(int64_t count, const SelectSpace& space) {
  Candidate* c = space.candidates;
  std::sort(c, c + count, Before());
  for (int64_t i = 0; i < count; ++i) {
    space.ids[i] = c[i].id;
    c[i].id = int32_t(i);
  }
}

/* Turns the gathered logits into weights; drops those below `least` and, past the k-th largest, below it. Returns how
 * many are left: with top_k they are in the order of their ranks, by which they are then known; else of their ids. */
inline int64_t weigh_candidates(const Draw& draw, int64_t count, const SelectSpace& space) {
  Candidate* c = space.candidates;
  float kth = -INFINITY;
  if (count > draw.top_k) {
    std::nth_element(c, c + draw.top_k - 1, c + count, Before());
    kth = c[draw.top_k - 1].value;
    count = collect(draw.logits, draw.size, space);
  }
  if (draw.top_k < draw.size) rank_candidates(count, space);
  int64_t kept = 0;
  for (int64_t i = 0; i < count; i += kLanes) {
    const int n = int(smaller(kLanes, count - i));
    float values[kLanes] = {}, weights[kLanes];
    for (int j = 0; j < n; ++j) values[j] = c[i + j].value;
    store(weights, weigh(draw, draw.exponents(load(values)), n));
    for (int j = 0; j < n; ++j) {
      if (values[j] >= kth && weights[j] > 0) c[kept++] = {weights[j], c[i + j].id};
    }
  }
  return kept;
}

inline uint32_t weight_bits(const Candidate& candidate) {
  uint32_t bits;
  memcpy(&bits, &candidate.value, sizeof(bits));
  return bits;
}

/* The last of the candidates, in the order of Before, that top_p keeps: those up to it have a mass of at least
 * `wanted`, those before it less. A radix search: the masses of 2048 ranges of weights by their leading bits, then of
 * ranges within the one where the mass is reached, until one weight remains. */
inline Candidate last_kept(const Candidate* c, int64_t count, double wanted) {
  const int shifts[] = {20, 9, 0}, widths[] = {11, 11, 9};
  uint32_t prefix = 0;
  double mass_before = 0; /* of the weights above the range, which are all kept */
  for (int level = 0; level < 3; ++level) {
    double masses[2048] = {};
    for (int64_t i = 0; i < count; ++i) {
      const uint32_t leading = weight_bits(c[i]) >> shifts[level];
      if (leading >> widths[level] == prefix) masses[leading & ((1u << widths[level]) - 1)] += double(c[i].value);
    }
    int reached = -1; /* the lowest range with any mass, should rounding keep the sum below what is wanted */
    for (int range = (1 << widths[level]) - 1; range >= 0; --range) {
      if (masses[range] == 0) continue;
      if (reached >= 0) mass_before += masses[reached];
      reached = range;
      if (mass_before + masses[range] >= wanted) break;
    }
    prefix = prefix << widths[level] | uint32_t(reached);
  }
  Candidate last{0, 0};
  for (int64_t i = 0; i < count && mass_before < wanted; ++i) {
    if (weight_bits(c[i]) != prefix) continue;
    last = c[i];
    mass_before += double(c[i].value);
  }
  return last;
}

inline double mass_of(const Candidate* c, int64_t count) {
  double mass = 0;
  for (int64_t i = 0; i < count; ++i) mass += double(c[i].value);
  return mass;
}

/* The id among the gathered items. `total` is the mass that top_p refers to; negative where it is that of the
 * candidates. */
inline int32_t pick_from_candidates(const Draw& draw, double total, const SelectSpace& space) {
  Candidate* c = space.candidates;
  int64_t count = weigh_candidates(draw, collect(draw.logits, draw.size, space), space);
  if (draw.top_p < 1) {
    const Candidate last = last_kept(c, count, draw.top_p * (total < 0 ? mass_of(c, count) : total));
    int64_t kept = 0;
    for (int64_t i = 0; i < count; ++i) {
      if (!Before()(last, c[i])) c[kept++] = c[i];
    }
    count = kept;
  }
  const double target = draw.uniform * mass_of(c, count);
  double running = 0;
  int64_t picked = 0;
  while (picked < count - 1 && !((running += double(c[picked].value)) > target)) ++picked;
  return draw.top_k < draw.size ? space.ids[c[picked].id] : c[picked].id;
}

/* The lowest id of the largest logit; 0 where there are only NaN. */
inline int32_t pick_largest(const Draw& draw, const SelectSpace& space) {
  for (int64_t s = 0; s < num_segments(draw.size); ++s) {
    if (reduce_max(load(space.maxima + s * kLanes)) < draw.largest) continue;
    for (int64_t i = s * kSegment; i < smaller((s + 1) * kSegment, draw.size); ++i) {
      if (draw.logits[i] == draw.largest) return int32_t(i);
    }
  }
  return 0;
}

/* All threads of `crew` work on one row; its first one returns the id (the others anything). */
inline int32_t draw_row(Draw draw, const SelectSpace& space, const PxThread* crew) {
  find_maxima(draw.logits, draw.size, space, crew);
  crew->barrier(crew);
  draw.largest = row_maximum(space, draw.size);
  /* an infinite logit takes all; without a finite one there is nothing to weigh */
  if (!(draw.inverse_temperature < INFINITY) || !(fabsf(draw.largest) < INFINITY)) return pick_largest(draw, space);
  if (draw.top_k == draw.size && draw.top_p >= 1) {
    measure(draw, false, space, crew);
    crew->barrier(crew);
    return crew->index == 0 ? pick_from_row(draw, space) : 0;
  }
  double total = -1;
  float bound;
  if (draw.top_k < draw.size) {
    if (crew->index == 0) space.masses[0] = double(lower_bound_of_kth(space, draw.size, draw.top_k));
    crew->barrier(crew);
    bound = float(space.masses[0]);
  } else {
    measure(draw, true, space, crew);
    crew->barrier(crew);
    total = total_mass(draw, space);
    bound = sufficient_bound(draw, space);
  }
  gather(draw.logits, draw.size, bound, false, space, crew);
  crew->barrier(crew);
  return crew->index == 0 ? pick_from_candidates(draw, total, space) : 0;
}

inline int32_t run_sample(const PxCall* call, const PxThread* thread) {
  const PxTensor* t = call->operands;
  const int64_t rows = t[0].shape[0], size = t[0].shape[1];
  const float *temperature = floats(t[1]), *top_p = floats(t[3]), *min_p = floats(t[4]), *uniform = floats(t[5]);
  const int32_t* top_k = ints(t[2]);
  for (int64_t r = 0; r < rows; ++r) {
    const bool ok = temperature[r] >= 0 && temperature[r] < INFINITY && top_k[r] >= 0 && top_p[r] >= 0 &&
                    min_p[r] >= 0 && min_p[r] <= 1 && uniform[r] >= 0 && uniform[r] < 1;
    if (!ok) return PX_INVALID_ARGUMENT;
  }
  int32_t* ids = static_cast<int32_t*>(t[6].data);
  return for_each_row(rows, size, call, thread, [&](int64_t row, const SelectSpace& space, const PxThread* crew) {
    const int64_t k = top_k[row] == 0 ? size : smaller(top_k[row], size);
    const float least = min_p[row] > 0 ? float(::log(double(min_p[row]))) : -INFINITY;
    const Draw draw{at<float>(t[0], row), size,  1.0f / fabsf(temperature[row]), k,
                    double(top_p[row]),   least, double(uniform[row]),           0};
    const int32_t id = draw_row(draw, space, crew);
    if (crew->index == 0) ids[row] = id;
  });
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
