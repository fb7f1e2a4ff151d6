/* Recursive filters, lfilter and sosfilt, in transposed direct form II: as many rows of the signal at once as a vector
 * has lanes, and a row that is left alone by numbers instead of vectors, in the same order.
 *
 * What limits a recurrence is the latency of one step, so lanes that are idle cost no time, and a row's result is the
 * same bits whatever stands beside it. Signals of float32 are filtered in float64 and rounded once, for the poles of a
 * narrow filter lie nearer to the unit circle than float32 can tell.
 */
#ifndef PERFX_SIGNAL_RECURRENCE_HPP
#define PERFX_SIGNAL_RECURRENCE_HPP

#include "rows.hpp"

namespace perfx {
namespace PERFX_VARIANT {

constexpr int kMaxRows = kLanes<double>;
constexpr int kStepsAtOnce = 128; /* of a block: up to 8 KiB for each part of the numbers */

/* Numbers as the filters compute with them, one for each row: real, or complex. `Lanes` is a vector, or a number. */
template <class Lanes>
struct Real {
  static constexpr int kRows = sizeof(Lanes) / sizeof(double), kParts = 1;
  static Real read(const double* p) { return {load_as<Lanes>(p)}; }
  static Real same(const double* p) { return {spread_as<Lanes>(*p)}; }
  void write(double* p) const { store(p, re); }
  Lanes re;
};
template <class Lanes>
inline Real<Lanes> multiply_add(Real<Lanes> a, Real<Lanes> b, Real<Lanes> c) {
  return {fused(a.re, b.re, c.re)};
}

template <class Lanes>
struct Complex {
  static constexpr int kRows = sizeof(Lanes) / sizeof(double), kParts = 2;
  static Complex read(const double* p) { return {load_as<Lanes>(p), load_as<Lanes>(p + kRows)}; }
  static Complex same(const double* p) { return {spread_as<Lanes>(p[0]), spread_as<Lanes>(p[1])}; }
  void write(double* p) const {
    store(p, re);
    store(p + kRows, im);
  }
  Lanes re, im;
};
template <class Lanes>
inline Complex<Lanes> multiply_add(Complex<Lanes> a, Complex<Lanes> b, Complex<Lanes> c) {
  return {fused(a.re, b.re, fused(-a.im, b.im, c.re)), fused(a.re, b.im, fused(a.im, b.re, c.im))};
}

/* As many rows of an operand as a Number has, or fewer at the end, from one on. */
template <class T, class Number>
struct RowGroup {
  static constexpr int kRows = Number::kRows, kParts = Number::kParts;
  RowGroup(const Rows& all, int64_t first) : step(all.step), count(int(smaller(kRows, all.count - first))) {
    for (int lane = 0; lane < count; ++lane) row[lane] = all.begin(first + lane);
  }
  T* at(int lane, int64_t index) const { return reinterpret_cast<T*>(row[lane] + index * step); }
  /* Items [from, from + steps) of all rows, to and from blocks of [step][part][lane]. */
  void read(int64_t from, int64_t steps, double* block) const {
    for (int lane = 0; lane < count; ++lane) {
      for (int64_t t = 0; t < steps; ++t) {
        const T* item = at(lane, from + t);
        for (int part = 0; part < kParts; ++part) block[(t * kParts + part) * kRows + lane] = item[part];
      }
    }
  }
  void write(int64_t from, int64_t steps, const double* block) const {
    for (int lane = 0; lane < count; ++lane) {
      for (int64_t t = 0; t < steps; ++t) {
        T* item = at(lane, from + t);
        for (int part = 0; part < kParts; ++part) item[part] = T(block[(t * kParts + part) * kRows + lane]);
      }
    }
  }
  int64_t step;
  int count;
  char* row[kRows];
};

/* What all rows are filtered from and to. A state has `width` items for each row: what zi says at first, and at last
 * zf. */
struct Filtering {
  Filtering(const PxCall* call, int zi, int64_t items)
      : x(last_axis(call->operands[0])),
        y(last_axis(call->operands[call->num_inputs])),
        before(dense_rows(call->operands[zi], x.count, items)),
        after(dense_rows(call->operands[call->num_inputs + 1], x.count, items)),
        width(items),
        size(call->operands[0].shape[call->operands[0].ndim - 1]) {}

  /* Filters the rows of a group. `filter(block, steps, state)` filters a block of all of them in place. */
  template <class T, class Number, class Filter>
  void run(int64_t first, double* state, Filter filter) const {
    alignas(64) double block[kStepsAtOnce * Number::kParts * Number::kRows] = {};
    const RowGroup<T, Number> from(x, first), to(y, first);
    memset(state, 0, size_t((width + 1) * Number::kParts * Number::kRows) * sizeof(double));
    RowGroup<double, Number>(before, first).read(0, width, state);
    for (int64_t begin = 0; begin < size; begin += kStepsAtOnce) {
      const int64_t steps = smaller(kStepsAtOnce, size - begin);
      from.read(begin, steps, block);
      filter(block, steps, state);
      to.write(begin, steps, block);
    }
    RowGroup<double, Number>(after, first).write(0, width, state);
  }

  /* Calls together(first) for groups of rows, and alone(first) for a row that is the last and alone. */
  template <class Together, class Alone>
  void each_group(const PxThread* thread, Together together, Alone alone) const {
    const PxRange part = perfx_share((x.count + kMaxRows - 1) / kMaxRows, 1, thread);
    for (int64_t group = part.begin; group < part.end; ++group) {
      const int64_t first = group * kMaxRows;
      if (x.count - first == 1) {
        alone(first);
      } else {
        together(first);
      }
    }
  }

  Rows x, y, before, after;
  int64_t width, size;
};

/* ---- lfilter: x, b, a, zi -> y, zf */

struct Coefficients {
  const double *b, *minus_a; /* order + 1 numbers each, divided by a[0] */
};

/* A filter of an order known to the compiler: its state stays in registers. */
template <class Number, int kOrder>
void filter_in_registers(Coefficients c, double* block, int64_t steps, double* state) {
  constexpr int kWidth = Number::kParts * Number::kRows, kParts = Number::kParts;
  Number z[kOrder + 1], b[kOrder + 1], minus_a[kOrder + 1];
  PERFX_UNROLLED for (int k = 0; k <= kOrder; ++k) {
    z[k] = k < kOrder ? Number::read(state + k * kWidth) : Number{};
    b[k] = Number::same(c.b + k * kParts);
    minus_a[k] = Number::same(c.minus_a + k * kParts);
  }
  for (int64_t t = 0; t < steps; ++t) {
    const Number x = Number::read(block + t * kWidth);
    const Number y = multiply_add(b[0], x, z[0]);
    PERFX_UNROLLED for (int k = 1; k <= kOrder; ++k) {
      z[k - 1] = multiply_add(minus_a[k], y, multiply_add(b[k], x, z[k]));
    }
    y.write(block + t * kWidth);
  }
  PERFX_UNROLLED for (int k = 0; k < kOrder; ++k) z[k].write(state + k * kWidth);
}

/* The same in the same order for any order; `state` has room for one item more, which is 0. */
template <class Number>
void filter_in_memory(Coefficients c, int64_t order, double* block, int64_t steps, double* state) {
  constexpr int kWidth = Number::kParts * Number::kRows, kParts = Number::kParts;
  for (int64_t t = 0; t < steps; ++t) {
    const Number x = Number::read(block + t * kWidth);
    const Number y = multiply_add(Number::same(c.b), x, Number::read(state));
    for (int64_t k = 1; k <= order; ++k) {
      const Number sum = multiply_add(Number::same(c.b + k * kParts), x, Number::read(state + k * kWidth));
      multiply_add(Number::same(c.minus_a + k * kParts), y, sum).write(state + (k - 1) * kWidth);
    }
    y.write(block + t * kWidth);
  }
}

template <class Number>
void filter_block(Coefficients c, int64_t order, double* block, int64_t steps, double* state) {
  switch (order) {
    case 1:
      return filter_in_registers<Number, 1>(c, block, steps, state);
    case 2:
      return filter_in_registers<Number, 2>(c, block, steps, state);
    case 3:
      return filter_in_registers<Number, 3>(c, block, steps, state);
    case 4:
      return filter_in_registers<Number, 4>(c, block, steps, state);
    case 5:
      return filter_in_registers<Number, 5>(c, block, steps, state);
    case 6:
      return filter_in_registers<Number, 6>(c, block, steps, state);
    case 8:
      return filter_in_registers<Number, 8>(c, block, steps, state);
    default:
      return filter_in_memory<Number>(c, order, block, steps, state);
  }
}

inline int64_t order_of(const PxCall* call) {
  const int64_t b = call->operands[1].shape[0], a = call->operands[2].shape[0];
  return (a > b ? a : b) - 1;
}

inline int32_t accepts_lfilter(const PxCall* call) {
  if (call->num_inputs != 4 || call->num_operands != 6) return PX_UNSUPPORTED;
  const PxTensor* t = call->operands;
  const bool real = is_real(t[0].dtype), complex = t[0].dtype == PX_COMPLEX64 || t[0].dtype == PX_COMPLEX128;
  if ((!real && !complex) || order_of(call) < 1 || t[4].dtype != t[0].dtype || !has_items(t[0])) return PX_UNSUPPORTED;
  constexpr int kDense[] = {1, 2, 3, 5};
  for (const int i : kDense) {
    if (!perfx_is_dense(&t[i], real ? PX_FLOAT64 : PX_COMPLEX128)) return PX_UNSUPPORTED;
  }
  return PX_OK;
}

/* For each thread the state; the coefficients, which all read, stand first. */
inline int64_t state_items(int64_t width) { return (width + 1) * 2 * kMaxRows; }
inline int64_t workspace_lfilter(const PxCall* call, int32_t num_threads) {
  const int64_t order = order_of(call);
  return num_threads * (state_items(order) + 4 * (order + 1)) * int64_t(sizeof(double));
}

/* b and -a, both divided by a[0] and filled up with zeros. */
template <int kParts>
Coefficients normalized(const PxCall* call, double* memory) {
  const int64_t count = order_of(call) + 1;
  const PxTensor* given = call->operands + 1;
  const double* a = static_cast<const double*>(given[1].data);
  const double re = a[0], im = kParts == 2 ? a[1] : 0.0, norm = re * re + im * im;
  for (int which = 0; which < 2; ++which) {
    const double* from = static_cast<const double*>(given[which].data);
    double* to = memory + which * count * kParts;
    const double sign = which == 0 ? 1.0 : -1.0;
    for (int64_t k = 0; k < count; ++k) {
      const bool there = k < given[which].shape[0];
      if (kParts == 1) {
        to[k] = there ? sign * (from[k] / re) : 0.0;
      } else {
        const double x = there ? from[2 * k] : 0.0, y = there ? from[2 * k + 1] : 0.0;
        to[2 * k] = sign * ((x * re + y * im) / norm);
        to[2 * k + 1] = sign * ((y * re - x * im) / norm);
      }
    }
  }
  return {memory, memory + count * kParts};
}

template <class T, template <class> class Number>
void run_lfilter_of(const PxCall* call, const PxThread* thread) {
  const int64_t order = order_of(call), size = state_items(order) + 4 * (order + 1);
  double* memory = static_cast<double*>(call->workspace) + thread->index * size;
  const Coefficients c = normalized<Number<double>::kParts>(call, memory + state_items(order));
  const Filtering filtering(call, 3, order);
  filtering.each_group(
      thread,
      [&](int64_t first) {
        filtering.run<T, Number<Doubles>>(first, memory, [&](double* block, int64_t steps, double* state) {
          filter_block<Number<Doubles>>(c, order, block, steps, state);
        });
      },
      [&](int64_t first) {
        filtering.run<T, Number<double>>(first, memory, [&](double* block, int64_t steps, double* state) {
          filter_block<Number<double>>(c, order, block, steps, state);
        });
      });
}

inline int32_t run_lfilter(const PxCall* call, const PxThread* thread) {
  switch (call->operands[0].dtype) {
    case PX_FLOAT32:
      run_lfilter_of<float, Real>(call, thread);
      break;
    case PX_FLOAT64:
      run_lfilter_of<double, Real>(call, thread);
      break;
    case PX_COMPLEX64:
      run_lfilter_of<float, Complex>(call, thread);
      break;
    default:
      run_lfilter_of<double, Complex>(call, thread);
  }
  return PX_OK;
}

/* ---- sosfilt: x, sos, zi -> y, zf */

/* A section of second order and its state. */
template <class Lanes>
struct Section {
  static constexpr int kRows = Real<Lanes>::kRows;
  Section() = default;
  Section(const double* c, const double* state)
      : b0(spread_as<Lanes>(c[0])),
        b1(spread_as<Lanes>(c[1])),
        b2(spread_as<Lanes>(c[2])),
        minus_a1(spread_as<Lanes>(-c[4])),
        minus_a2(spread_as<Lanes>(-c[5])),
        z0(load_as<Lanes>(state)),
        z1(load_as<Lanes>(state + kRows)) {}
  Lanes step(Lanes x) {
    const Lanes y = fused(b0, x, z0);
    z0 = fused(minus_a1, y, fused(b1, x, z1));
    z1 = fused(minus_a2, y, b2 * x);
    return y;
  }
  void write(double* state) const {
    store(state, z0);
    store(state + kRows, z1);
  }
  Lanes b0, b1, b2, minus_a1, minus_a2, z0, z1;
};

/* Sections that follow each other, for a block: their states stay in registers. */
template <class Lanes, int kCount>
void filter_sections(const double* sos, double* block, int64_t steps, double* state) {
  constexpr int kRows = Real<Lanes>::kRows;
  Section<Lanes> section[kCount];
  PERFX_UNROLLED for (int s = 0; s < kCount; ++s) section[s] = Section<Lanes>(sos + 6 * s, state + 2 * s * kRows);
  for (int64_t t = 0; t < steps; ++t) {
    Lanes x = load_as<Lanes>(block + t * kRows);
    PERFX_UNROLLED for (int s = 0; s < kCount; ++s) x = section[s].step(x);
    store(block + t * kRows, x);
  }
  PERFX_UNROLLED for (int s = 0; s < kCount; ++s) section[s].write(state + 2 * s * kRows);
}

template <class Lanes>
void filter_cascade(const double* sos, int64_t count, double* block, int64_t steps, double* state) {
  constexpr int kStates = 2 * Real<Lanes>::kRows;
  int64_t s = 0;
  for (; s + 4 <= count; s += 4) filter_sections<Lanes, 4>(sos + 6 * s, block, steps, state + s * kStates);
  for (; s + 2 <= count; s += 2) filter_sections<Lanes, 2>(sos + 6 * s, block, steps, state + s * kStates);
  if (s < count) filter_sections<Lanes, 1>(sos + 6 * s, block, steps, state + s * kStates);
}

inline int32_t accepts_sosfilt(const PxCall* call) {
  if (call->num_inputs != 3 || call->num_operands != 5) return PX_UNSUPPORTED;
  const PxTensor* t = call->operands;
  if (!is_real(t[0].dtype) || t[3].dtype != t[0].dtype || !has_items(t[0])) return PX_UNSUPPORTED;
  constexpr int kDense[] = {1, 2, 4};
  for (const int i : kDense) {
    if (!perfx_is_dense(&t[i], PX_FLOAT64)) return PX_UNSUPPORTED;
  }
  return PX_OK;
}
inline int64_t workspace_sosfilt(const PxCall* call, int32_t num_threads) {
  return num_threads * state_items(2 * call->operands[1].shape[0]) * int64_t(sizeof(double));
}

template <class T>
void run_sosfilt_of(const PxCall* call, const PxThread* thread) {
  const double* sos = static_cast<const double*>(call->operands[1].data);
  const int64_t count = call->operands[1].shape[0];
  double* memory = static_cast<double*>(call->workspace) + thread->index * state_items(2 * count);
  const Filtering filtering(call, 2, 2 * count);
  filtering.each_group(
      thread,
      [&](int64_t first) {
        filtering.run<T, Real<Doubles>>(first, memory, [&](double* block, int64_t steps, double* state) {
          filter_cascade<Doubles>(sos, count, block, steps, state);
        });
      },
      [&](int64_t first) {
        filtering.run<T, Real<double>>(first, memory, [&](double* block, int64_t steps, double* state) {
          filter_cascade<double>(sos, count, block, steps, state);
        });
      });
}

inline int32_t run_sosfilt(const PxCall* call, const PxThread* thread) {
  if (call->operands[0].dtype == PX_FLOAT32) {
    run_sosfilt_of<float>(call, thread);
  } else {
    run_sosfilt_of<double>(call, thread);
  }
  return PX_OK;
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
