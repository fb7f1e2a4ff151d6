/* The core's rfft and irfft along the last axis, of lengths that are powers of two: as many rows at once as a vector
 * has lanes, so that a transform is arithmetic on whole vectors and nothing else.
 *
 * N real numbers are transformed as N / 2 complex ones, even places and odd ones, by Stockham's passes of radix 4,
 * which sort as they go; what the two halves share is parted afterwards (Cooley, Lewis and Welch, 1970). The inverse is
 * the same with the real and imaginary parts changed. Idle lanes cost no time, and a row's bits do not depend on
 * others.
 */
#ifndef PERFX_SIGNAL_FOURIER_HPP
#define PERFX_SIGNAL_FOURIER_HPP

#include "rows.hpp"

namespace perfx {
namespace PERFX_VARIANT {

constexpr int64_t kMaxTransform = 4096;
constexpr double kTurn = 6.283185307179586476925;
/* How many items of a row follow each other where rows become lanes, and back. */
constexpr int64_t kTransposed = 16;

/* A complex number in each lane. */
template <class Vector>
struct Pair {
  Vector re, im;
};
template <class Vector>
inline Pair<Vector> operator+(Pair<Vector> a, Pair<Vector> b) {
  return {a.re + b.re, a.im + b.im};
}
template <class Vector>
inline Pair<Vector> operator-(Pair<Vector> a, Pair<Vector> b) {
  return {a.re - b.re, a.im - b.im};
}
/* a times the number at `w`. */
template <class Vector, class T>
inline Pair<Vector> times(Pair<Vector> a, const T* w) {
  const Vector re = spread(w[0]), im = spread(w[1]);
  return {fused(a.re, re, -(a.im * im)), fused(a.re, im, a.im * re)};
}

/* One transform's memory: two arrays of complex lanes, and the roots of unity exp(-2 pi i k / N). */
template <class T>
struct Transform {
  typedef typename VectorOf<T>::Type Vector;
  static constexpr int kRows = kLanes<T>;
  static int64_t items(int64_t size) { return 2 * (size / 2 + 1) * 2 * kRows + 2 * size; }

  Transform(void* memory, int64_t length)
      : size(length),
        half(length / 2),
        x(static_cast<T*>(memory)),
        y(x + (half + 1) * 2 * kRows),
        roots(y + (half + 1) * 2 * kRows) {
    for (int64_t k = 0; k < size; ++k) {
      roots[2 * k] = T(cos(-kTurn * double(k) / double(size)));
      roots[2 * k + 1] = T(sin(-kTurn * double(k) / double(size)));
    }
  }
  static Pair<Vector> read(const T* from, int64_t k) {
    return {load(from + 2 * k * kRows), load(from + (2 * k + 1) * kRows)};
  }
  static void write(T* to, int64_t k, Pair<Vector> value) {
    store(to + 2 * k * kRows, value.re);
    store(to + (2 * k + 1) * kRows, value.im);
  }

  /* The transform of half the length, of x; the result is in x too. */
  void run() {
    int64_t length = half, stride = 1;
    for (; length >= 4; length /= 4, stride *= 4) {
      for (int64_t p = 0; p < length / 4; ++p) pass_of_four(p, length / 4, stride);
      T* const done = y;
      y = x;
      x = done;
    }
    for (int64_t q = 0; length == 2 && q < stride; ++q) {
      const Pair<Vector> a = read(x, q), b = read(x, q + stride);
      write(x, q, a + b);
      write(x, q + stride, a - b);
    }
  }
  void pass_of_four(int64_t p, int64_t quarter, int64_t stride) {
    const T *w1 = roots + 4 * p * stride, *w2 = roots + 8 * p * stride, *w3 = roots + 12 * p * stride;
    for (int64_t q = 0; q < stride; ++q) {
      const Pair<Vector> a = read(x, q + stride * p), b = read(x, q + stride * (p + quarter));
      const Pair<Vector> c = read(x, q + stride * (p + 2 * quarter)), d = read(x, q + stride * (p + 3 * quarter));
      const Pair<Vector> sum = a + c, difference = a - c, other = b + d, turned = {d.im - b.im, b.re - d.re};
      T* const to = y + (q + stride * 4 * p) * 2 * kRows;
      write(to, 0, sum + other);
      write(to, stride, times(difference - turned, w1));
      write(to, 2 * stride, times(sum - other, w2));
      write(to, 3 * stride, times(difference + turned, w3));
    }
  }

  /* From the transform of even and odd places to that of all: [0, half] of y, from x. */
  void part() {
    for (int64_t k = 0; 2 * k <= half; ++k) {
      const Pair<Vector> a = read(x, k), b = read(x, k == 0 ? 0 : half - k);
      const Pair<Vector> even = {(a.re + b.re) * T(0.5), (a.im - b.im) * T(0.5)};
      const Pair<Vector> odd = times(Pair<Vector>{(a.im + b.im) * T(0.5), (b.re - a.re) * T(0.5)}, roots + 2 * k);
      write(y, k, even + odd);
      write(y, half - k, Pair<Vector>{even.re - odd.re, odd.im - even.im});
    }
  }
  /* The way back, from y to x, with the parts changed, so that `run` is the inverse. */
  void join() {
    for (int64_t k = 0; 2 * k <= half; ++k) {
      const Pair<Vector> a = read(y, k), b = read(y, half - k);
      const Pair<Vector> even = {a.re + b.re, a.im - b.im};
      const T back[2] = {roots[2 * k], -roots[2 * k + 1]};
      const Pair<Vector> odd = times(Pair<Vector>{a.re - b.re, a.im + b.im}, back);
      write(x, k, Pair<Vector>{even.im + odd.re, even.re - odd.im});
      if (k > 0) write(x, half - k, Pair<Vector>{odd.re - even.im, even.re + odd.im});
    }
  }

  int64_t size, half;
  T *x, *y, *roots;
};

/* Items of rows, each of `parts` numbers, to and from the lanes of [item][part][lane]. */
template <class T, class Move>
void each_item(const Rows& rows, int64_t first, int64_t count, Move move) {
  const int lanes = int(smaller(kLanes<T>, rows.count - first));
  for (int64_t begin = 0; begin < count; begin += kTransposed) {
    for (int lane = 0; lane < lanes; ++lane) {
      char* const row = rows.begin(first + lane);
      for (int64_t i = begin; i < smaller(begin + kTransposed, count); ++i) {
        move(reinterpret_cast<T*>(row + i * rows.step), i, lane);
      }
    }
  }
}

/* What results are multiplied by: attribute "norm", of backward, ortho, forward. */
inline double scale_of(int64_t norm, int64_t size, bool inverse) {
  if (norm == 1) return 1.0 / sqrt(double(size));
  return (norm == 2) != inverse ? 1.0 / double(size) : 1.0;
}

template <class T>
void run_rfft_of(const PxCall* call, const PxThread* thread) {
  const Rows x = last_axis(call->operands[0]), y = last_axis(call->operands[1]);
  const int64_t size = call->operands[0].shape[call->operands[0].ndim - 1];
  const PxRange part = perfx_share((x.count + kLanes<T> - 1) / kLanes<T>, 1, thread);
  if (part.begin >= part.end) return;
  Transform<T> transform(static_cast<T*>(call->workspace) + thread->index * Transform<T>::items(size), size);
  const T scale = T(scale_of(call->attrs[1].i, size, false));
  for (int64_t group = part.begin; group < part.end; ++group) {
    const int64_t first = group * kLanes<T>;
    if (x.count - first < kLanes<T>) memset(transform.x, 0, size_t(size * kLanes<T>) * sizeof(T));
    each_item<T>(x, first, size,
                 [&](const T* item, int64_t i, int lane) { transform.x[i * kLanes<T> + lane] = *item; });
    transform.run();
    transform.part();
    const T* const lanes = transform.y;
    each_item<T>(y, first, size / 2 + 1, [&](T* item, int64_t i, int lane) {
      item[0] = lanes[2 * i * kLanes<T> + lane] * scale;
      item[1] = lanes[(2 * i + 1) * kLanes<T> + lane] * scale;
    });
  }
}

template <class T>
void run_irfft_of(const PxCall* call, const PxThread* thread) {
  const Rows x = last_axis(call->operands[0]), y = last_axis(call->operands[1]);
  const int64_t size = call->operands[1].shape[call->operands[1].ndim - 1];
  const PxRange part = perfx_share((x.count + kLanes<T> - 1) / kLanes<T>, 1, thread);
  if (part.begin >= part.end) return;
  Transform<T> transform(static_cast<T*>(call->workspace) + thread->index * Transform<T>::items(size), size);
  const T scale = T(scale_of(call->attrs[2].i, size, true));
  for (int64_t group = part.begin; group < part.end; ++group) {
    const int64_t first = group * kLanes<T>;
    T* const lanes = transform.y;
    if (x.count - first < kLanes<T>) memset(lanes, 0, size_t((size + 2) * kLanes<T>) * sizeof(T));
    each_item<T>(x, first, size / 2 + 1, [&](const T* item, int64_t i, int lane) {
      lanes[2 * i * kLanes<T> + lane] = item[0];
      /* the first and the last number are real, whatever is given */
      lanes[(2 * i + 1) * kLanes<T> + lane] = i == 0 || 2 * i == size ? T(0) : item[1];
    });
    transform.join();
    transform.run();
    each_item<T>(y, first, size, [&](T* item, int64_t i, int lane) {
      *item = transform.x[(i ^ 1) * kLanes<T> + lane] * scale; /* with the parts changed back */
    });
  }
}

/* A real operand and the complex one of its transform, both along the last axis, of a length that is dealt with. */
inline bool is_transform(const PxCall* call, const PxTensor& real, const PxTensor& complex) {
  const bool single = real.dtype == PX_FLOAT32 && complex.dtype == PX_COMPLEX64;
  if (!single && !(real.dtype == PX_FLOAT64 && complex.dtype == PX_COMPLEX128)) return false;
  if (!has_items(real) || !has_items(complex) || call->attrs[0].i != real.ndim - 1) return false;
  const int64_t size = real.shape[real.ndim - 1];
  return size >= 2 && size <= kMaxTransform && (size & (size - 1)) == 0;
}
inline int64_t workspace_of(const PxTensor& real, int32_t num_threads) {
  const int64_t size = real.shape[real.ndim - 1];
  if (real.dtype == PX_FLOAT32) return num_threads * Transform<float>::items(size) * int64_t(sizeof(float));
  return num_threads * Transform<double>::items(size) * int64_t(sizeof(double));
}

inline int32_t accepts_rfft(const PxCall* call) {
  if (call->num_inputs != 1 || call->num_operands != 2 || call->num_attrs != 2) return PX_UNSUPPORTED;
  return is_transform(call, call->operands[0], call->operands[1]) ? PX_OK : PX_UNSUPPORTED;
}
inline int32_t accepts_irfft(const PxCall* call) {
  if (call->num_inputs != 1 || call->num_operands != 2 || call->num_attrs != 3) return PX_UNSUPPORTED;
  return is_transform(call, call->operands[1], call->operands[0]) ? PX_OK : PX_UNSUPPORTED;
}
inline int64_t workspace_rfft(const PxCall* call, int32_t num_threads) {
  return workspace_of(call->operands[0], num_threads);
}
inline int64_t workspace_irfft(const PxCall* call, int32_t num_threads) {
  return workspace_of(call->operands[1], num_threads);
}

inline int32_t run_rfft(const PxCall* call, const PxThread* thread) {
  if (call->operands[0].dtype == PX_FLOAT32) {
    run_rfft_of<float>(call, thread);
  } else {
    run_rfft_of<double>(call, thread);
  }
  return PX_OK;
}
inline int32_t run_irfft(const PxCall* call, const PxThread* thread) {
  if (call->operands[1].dtype == PX_FLOAT32) {
    run_irfft_of<float>(call, thread);
  } else {
    run_irfft_of<double>(call, thread);
  }
  return PX_OK;
}

}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
