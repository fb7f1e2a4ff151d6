/* lstm, gru, rnn: float32, one direction over a whole sequence.
 *
 * The products with x of all steps are one matrix product. Then step follows step: a thread makes its share of the
 * hidden units, for every sequence of the batch, from its rows of the recurrent weights, and meets the others. Small
 * layers are one thread's work, for meeting takes longer. A unit's bits depend on its sequence alone.
 */
#ifndef PERFX_KERNELS_RECURRENT_HPP
#define PERFX_KERNELS_RECURRENT_HPP

#include "perfx/kernels/math.hpp"
#include "perfx/kernels/windows.hpp"
#include "perfx/matmul.hpp"

namespace perfx {
namespace PERFX_VARIANT {
namespace recurrent {

/* Multiplications of one step from which on threads share it. */
constexpr int64_t kSharedStep = int64_t(1) << 15;

enum Operand { kX, kWeight, kRecurrence, kBias, kLengths, kState, kCell, kPeepholes };
enum Gate { kInput, kOutput, kForget, kUpdate };   /* of lstm */
enum GruGate { kUpdateGate, kResetGate, kHidden }; /* of gru */
enum Layer { kLstm, kGru, kRnn };
constexpr int64_t num_gates(Layer layer) { return layer == kLstm ? 4 : layer == kGru ? 3 : 1; }
constexpr int num_inputs(Layer layer) { return layer == kLstm ? 8 : 6; }
constexpr int num_outputs(Layer layer) { return layer == kLstm ? 3 : 2; }

/* Sizes of a call, and where the parts of its workspace begin, in numbers. */
struct Shape {
  Shape(const PxCall* call, Layer layer)
      : length(call->operands[kX].shape[0]),
        batch(call->operands[kX].shape[1]),
        inputs(call->operands[kX].shape[2]),
        size(call->operands[kRecurrence].shape[1]),
        rows(num_gates(layer) * size),
        layout(length * batch, rows, inputs) {}
  /* Two states, what the reset gate leaves of one, and a gate, for each sequence. */
  int64_t state_floats() const { return matmul::round_up(4 * batch * size, kLanes); }
  int64_t product_floats() const { return matmul::round_up(length * batch * rows, kLanes); }
  int64_t own_floats() const { return matmul::round_up(rows, kLanes); }
  int64_t bytes(int64_t num_threads) const {
    const int64_t numbers = product_floats() + state_floats() + num_threads * own_floats();
    return numbers * int64_t(sizeof(float)) + layout.narrow_bytes + num_threads * layout.thread_bytes();
  }
  int64_t length, batch, inputs, size, rows;
  matmul::Layout<float> layout;
};

/* Rows whose sums stay in registers beside what they are made of. */
constexpr int kRowsAtOnce = kProductRows < 8 ? 4 : 8;

/* The products of `count` rows with a vector, each in a lane. A row is summed in 16 lanes, in ascending order; these
 * are added in halves. Rows are turned into lanes for that all at once. */
inline F multiply_rows(const float* rows, int64_t size, int count, const float* x) {
  F sums[kLanes];
  for (int first = 0; first < kLanes; first += kRowsAtOnce) {
    const float* at[kRowsAtOnce];
    F part[kRowsAtOnce];
    for (int r = 0; r < kRowsAtOnce; ++r) {
      at[r] = rows + (first + r < count ? first + r : 0) * size; /* rows that are not wanted repeat the first */
      part[r] = set(0.0f);
    }
    for_each_vector(size, [&](int64_t k, int n) {
      const F v = load_n(x + k, n);
#pragma GCC unroll 8
      for (int r = 0; r < kRowsAtOnce; ++r) part[r] = fma(load_n(at[r] + k, n), v, part[r]);
    });
    for (int r = 0; r < kRowsAtOnce; ++r) sums[first + r] = part[r];
  }
  transpose(sums);
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) sums[i] = sums[i] + sums[i + half];
  }
  return sums[0];
}

/* All that one thread needs to know of a call. */
class Recurrence {
 public:
  Recurrence(const PxCall* call, const PxThread* thread, Layer layer)
      : call_(call), thread_(thread), shape_(call, layer), reverse_(call->attrs[0].i != 0) {
    products_ = static_cast<float*>(call->workspace);
    states_ = products_ + shape_.product_floats();
    reset_ = states_ + 2 * shape_.batch * shape_.size;
    update_ = reset_ + shape_.batch * shape_.size;
    own_ = states_ + shape_.state_floats() + thread->index * shape_.own_floats();
    const bool shared = shape_.rows * shape_.size * shape_.batch >= kSharedStep;
    is_shared_ = shared && thread->count > 1;
    units_ = shared ? share(shape_.size, kLanes, thread) : Range{0, thread->index == 0 ? shape_.size : 0};
  }

  /* Whether the lengths lie within the sequence. */
  bool are_lengths_valid() const {
    const PxTensor& lengths = call_->operands[kLengths];
    for (int64_t b = 0; b < (is_absent(lengths) ? 0 : shape_.batch); ++b) {
      if (ints(lengths)[b] < 0 || ints(lengths)[b] > shape_.length) return false;
    }
    return true;
  }

  /* x times the weights of all gates, for all steps: [length * batch, rows]. All threads call it. */
  void multiply_inputs() const {
    const int64_t steps = shape_.length * shape_.batch, item = int64_t(sizeof(float));
    if (steps == 0) return;
    PxTensor x = call_->operands[kX], weight = call_->operands[kWeight];
    x.ndim = weight.ndim = 2;
    x.shape[0] = steps, x.shape[1] = weight.shape[0] = shape_.inputs, weight.shape[1] = shape_.rows;
    x.strides[0] = weight.strides[1] = shape_.inputs * item, x.strides[1] = weight.strides[0] = item;
    char* const shared = reinterpret_cast<char*>(own_ + (thread_->count - thread_->index) * shape_.own_floats());
    char* const own = shared + shape_.layout.narrow_bytes + thread_->index * shape_.layout.thread_bytes();
    matmul::Crew crew(thread_, false);
    const matmul::Matrix left(x, true, item), right(weight, false, item);
    matmul::multiply(matmul::Problem<float>(left, right, products_), shape_.layout, crew, shared, own);
    thread_->barrier(thread_);
  }

  /* Copies a first state (zeros where it is absent) for this thread's units. */
  void begin(const PxTensor& given, float* target) const {
    for (int64_t b = 0; b < shape_.batch; ++b) {
      for (int64_t u = units_.begin; u < units_.end; ++u) {
        target[b * shape_.size + u] = is_absent(given) ? 0.0f : floats(given)[b * shape_.size + u];
      }
    }
  }

  /* Runs all steps: `advance(step, h, next, y)` makes this thread's units of the new states and of the step's output
   * from the states before it. What the last state is stands in operand `last` in the end. */
  template <class Advance>
  void run(int last, Advance advance) {
    begin(call_->operands[kState], states_);
    float* const y = static_cast<float*>(call_->operands[last - 1].data);
    const int64_t floats_of_all = shape_.batch * shape_.size;
    for (int64_t i = 0; i < shape_.length; ++i) {
      meet(); /* all of the state is there */
      const int64_t step = reverse_ ? shape_.length - 1 - i : i;
      const float* h = states_ + i % 2 * floats_of_all;
      float* next = states_ + (i + 1) % 2 * floats_of_all;
      advance(step, h, next, y + step * floats_of_all);
    }
    const float* h = states_ + shape_.length % 2 * floats_of_all;
    float* const target = static_cast<float*>(call_->operands[last].data);
    for (int64_t b = 0; b < shape_.batch; ++b) copy_units(h + b * shape_.size, target + b * shape_.size);
  }

  /* Copies this thread's units of one sequence. */
  void copy_units(const float* source, float* target) const {
    for (int64_t u = units_.begin; u < units_.end; ++u) target[u] = source[u];
  }
  /* A step that a sequence does not have: its state stays, its output is zero. */
  bool skips(int64_t step, int64_t b, const float* h, float* next, float* y) const {
    const PxTensor& lengths = call_->operands[kLengths];
    if (is_absent(lengths) || step < ints(lengths)[b]) return false;
    copy_units(h + b * shape_.size, next + b * shape_.size);
    fill(y + b * shape_.size + units_.begin, units_.end - units_.begin, 0.0f);
    return true;
  }

  /* The product of this thread's rows of a gate's recurrent weights with a state; own()[unit of the gate]. */
  void multiply_state(int64_t gate, const float* h) const {
    const float* weight = floats(call_->operands[kRecurrence]);
    for_units([&](int64_t u, int n) {
      const int64_t row = gate * shape_.size + u;
      store_n(own_ + row, n, multiply_rows(weight + row * shape_.size, shape_.size, n, h));
    });
  }
  /* What a gate adds up: both products and both biases, for units from `u` on. */
  F total(int64_t gate, int64_t step, int64_t b, int64_t u, int n) const {
    return by_input(gate, step, b, u, n) + by_state(gate, u, n);
  }
  F by_input(int64_t gate, int64_t step, int64_t b, int64_t u, int n) const {
    const int64_t row = gate * shape_.size + u;
    return load_n(products_ + (step * shape_.batch + b) * shape_.rows + row, n) + bias(row, n);
  }
  F by_state(int64_t gate, int64_t u, int n) const {
    const int64_t row = gate * shape_.size + u;
    return load_n(own_ + row, n) + bias(shape_.rows + row, n);
  }
  /* Peephole connections of a gate; zeros where they are absent. */
  F peephole(int64_t gate, int64_t u, int n) const {
    const PxTensor& given = call_->operands[kPeepholes];
    return is_absent(given) ? set(0.0f) : load_n(floats(given) + gate * shape_.size + u, n);
  }
  void meet() const {
    if (is_shared_) thread_->barrier(thread_);
  }
  /* Calls body(u, n) for each vector of this thread's units. */
  template <class Body>
  void for_units(Body body) const {
    for_each_vector(units_.end - units_.begin, [&](int64_t i, int n) { body(units_.begin + i, n); });
  }

  const Shape& shape() const { return shape_; }
  float* reset(int64_t b) const { return reset_ + b * shape_.size; }
  float* update(int64_t b) const { return update_ + b * shape_.size; }

 private:
  F bias(int64_t row, int n) const {
    const PxTensor& given = call_->operands[kBias];
    return is_absent(given) ? set(0.0f) : load_n(floats(given) + row, n);
  }

  const PxCall* call_;
  const PxThread* thread_;
  const Shape shape_;
  const bool reverse_;
  float *products_, *states_, *reset_, *update_, *own_;
  bool is_shared_;
  Range units_;
};

inline void run_lstm(const PxCall* call, Recurrence& layer) {
  const int64_t size = layer.shape().size;
  float* const cells = static_cast<float*>(call->operands[10].data);
  layer.begin(call->operands[kCell], cells);
  layer.run(9, [&](int64_t step, const float* h, float* next, float* y) {
    for (int64_t b = 0; b < layer.shape().batch; ++b) {
      if (layer.skips(step, b, h, next, y)) continue;
      for (int64_t gate = 0; gate < 4; ++gate) layer.multiply_state(gate, h + b * size);
      layer.for_units([&](int64_t u, int n) {
        float* cell = cells + b * size + u;
        const F c = load_n(cell, n);
        const F i = sigmoid(fma(layer.peephole(0, u, n), c, layer.total(kInput, step, b, u, n)));
        const F f = sigmoid(fma(layer.peephole(2, u, n), c, layer.total(kForget, step, b, u, n)));
        const F new_c = fma(f, c, i * tanh(layer.total(kUpdate, step, b, u, n)));
        const F o = sigmoid(fma(layer.peephole(1, u, n), new_c, layer.total(kOutput, step, b, u, n)));
        const F new_h = o * tanh(new_c);
        store_n(cell, n, new_c);
        store_n(next + b * size + u, n, new_h);
        store_n(y + b * size + u, n, new_h);
      });
    }
  });
}

/* (1 - z) * hidden + z * h */
inline F blend(F z, F hidden, F h) { return fma(z, h, (set(1.0f) - z) * hidden); }

/* The reset gate scales the product with the state: all gates of a sequence are made at once. */
inline void run_gru_linear(Recurrence& layer) {
  const int64_t size = layer.shape().size;
  layer.run(7, [&](int64_t step, const float* h, float* next, float* y) {
    for (int64_t b = 0; b < layer.shape().batch; ++b) {
      if (layer.skips(step, b, h, next, y)) continue;
      for (int64_t gate = 0; gate < 3; ++gate) layer.multiply_state(gate, h + b * size);
      layer.for_units([&](int64_t u, int n) {
        const F z = sigmoid(layer.total(kUpdateGate, step, b, u, n)),
                r = sigmoid(layer.total(kResetGate, step, b, u, n));
        const F hidden = tanh(fma(r, layer.by_state(kHidden, u, n), layer.by_input(kHidden, step, b, u, n)));
        const F new_h = blend(z, hidden, load_n(h + b * size + u, n));
        store_n(next + b * size + u, n, new_h);
        store_n(y + b * size + u, n, new_h);
      });
    }
  });
}

/* The reset gate scales the state: its gates first, for all threads' units, then the hidden one. */
inline void run_gru_reset(Recurrence& layer) {
  const int64_t size = layer.shape().size, batch = layer.shape().batch;
  layer.run(7, [&](int64_t step, const float* h, float* next, float* y) {
    for (int64_t b = 0; b < batch; ++b) {
      layer.multiply_state(kUpdateGate, h + b * size);
      layer.multiply_state(kResetGate, h + b * size);
      layer.for_units([&](int64_t u, int n) {
        const F r = sigmoid(layer.total(kResetGate, step, b, u, n));
        store_n(layer.update(b) + u, n, sigmoid(layer.total(kUpdateGate, step, b, u, n)));
        store_n(layer.reset(b) + u, n, r * load_n(h + b * size + u, n));
      });
    }
    layer.meet();
    for (int64_t b = 0; b < batch; ++b) {
      if (layer.skips(step, b, h, next, y)) continue;
      layer.multiply_state(kHidden, layer.reset(b));
      layer.for_units([&](int64_t u, int n) {
        const F hidden = tanh(layer.total(kHidden, step, b, u, n));
        const F new_h = blend(load_n(layer.update(b) + u, n), hidden, load_n(h + b * size + u, n));
        store_n(next + b * size + u, n, new_h);
        store_n(y + b * size + u, n, new_h);
      });
    }
  });
}

/* max(x, 0), NaN where x is */
inline F rectify(F x) { return max(set(0.0f), x); }

template <F (*Activation)(F)>
inline void run_rnn(Recurrence& layer) {
  const int64_t size = layer.shape().size;
  layer.run(7, [&](int64_t step, const float* h, float* next, float* y) {
    for (int64_t b = 0; b < layer.shape().batch; ++b) {
      if (layer.skips(step, b, h, next, y)) continue;
      layer.multiply_state(0, h + b * size);
      layer.for_units([&](int64_t u, int n) {
        const F new_h = Activation(layer.total(0, step, b, u, n));
        store_n(next + b * size + u, n, new_h);
        store_n(y + b * size + u, n, new_h);
      });
    }
  });
}

template <Layer kind>
inline int32_t accepts(const PxCall* call) {
  if (!has_signature(call, num_inputs(kind), num_outputs(kind), kind == kLstm ? 1 : 2)) return PX_UNSUPPORTED;
  const PxTensor* t = call->operands;
  bool ok = is_dense(t[kX], PX_FLOAT32, 3) && is_dense(t[kWeight], PX_FLOAT32, 2) &&
            is_dense(t[kRecurrence], PX_FLOAT32, 2) && num_elements(t[kWeight]) > 0 && t[kX].shape[1] > 0;
  ok = ok && (is_absent(t[kLengths]) || is_dense(t[kLengths], PX_INT32, 1));
  for (int i = kBias; i < call->num_inputs; ++i) {
    const int ndim = i == kState || i == kCell ? 2 : 1;
    ok = ok && (i == kLengths || is_absent(t[i]) || is_dense(t[i], PX_FLOAT32, ndim));
  }
  for (int i = call->num_inputs; i < call->num_operands; ++i) ok = ok && is_dense(t[i], PX_FLOAT32, t[i].ndim);
  return ok ? PX_OK : PX_UNSUPPORTED;
}

template <Layer kind>
inline int64_t workspace(const PxCall* call, int32_t num_threads) {
  return Shape(call, kind).bytes(num_threads);
}

template <Layer kind>
inline int32_t run(const PxCall* call, const PxThread* thread) {
  if (call->workspace_bytes < workspace<kind>(call, thread->count)) return PX_OUT_OF_MEMORY;
  Recurrence layer(call, thread, kind);
  if (!layer.are_lengths_valid()) return PX_INVALID_ARGUMENT;
  layer.multiply_inputs();
  if (kind == kLstm) {
    run_lstm(call, layer);
  } else if (kind == kGru) {
    call->attrs[1].i != 0 ? run_gru_linear(layer) : run_gru_reset(layer);
  } else {
    call->attrs[1].i == 0 ? run_rnn<tanh>(layer) : run_rnn<rectify>(layer);
  }
  return PX_OK;
}

}  // namespace recurrent
}  // namespace PERFX_VARIANT
}  // namespace perfx
#endif
