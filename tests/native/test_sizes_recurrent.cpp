// Recurrent layers at every number of units, of inputs and of sequences around vectors, against plain loops in double.
#include "sweep.hpp"

using namespace perfx_test;

namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

using Row = std::vector<double>;

// One layer: its sizes and its operands, of which some may be left out.
struct Layer {
  Layer(int64_t gates_in, int64_t length_in, int64_t batch_in, int64_t inputs_in, int64_t size_in, bool is_whole)
      : gates(gates_in),
        length(length_in),
        batch(batch_in),
        inputs(inputs_in),
        size(size_in),
        x(draw(length * batch * inputs, 1)),
        weight(draw(gates * size * inputs, 2)),
        recurrence(draw(gates * size * size, 3)),
        bias(draw(is_whole ? 2 * gates * size : 0, 4)),
        state(draw(is_whole ? batch * size : 0, 5)),
        cell(draw(is_whole ? batch * size : 0, 6)),
        peepholes(draw(is_whole ? 3 * size : 0, 7)) {
    for (int64_t b = 0; is_whole && b < batch; ++b) lengths.push_back(int32_t((length + b) % (length + 1)));
  }
  static std::vector<float> draw(int64_t count, uint64_t seed) { return random_floats(size_t(count), seed, -0.5, 0.5); }

  // A gate's product with x and its bias, for one unit.
  double by_input(int64_t step, int64_t b, int64_t row) const {
    double sum = bias.empty() ? 0 : bias[size_t(row)];
    for (int64_t i = 0; i < inputs; ++i) {
      sum += double(x[size_t((step * batch + b) * inputs + i)]) * weight[size_t(row * inputs + i)];
    }
    return sum;
  }
  double by_state(const Row& h, int64_t row) const {
    double sum = bias.empty() ? 0 : bias[size_t(gates * size + row)];
    for (int64_t i = 0; i < size; ++i) sum += h[size_t(i)] * recurrence[size_t(row * size + i)];
    return sum;
  }
  double peephole(int64_t gate, int64_t unit) const {
    return peepholes.empty() ? 0 : peepholes[size_t(gate * size + unit)];
  }
  Row first(const std::vector<float>& given, int64_t b) const {
    if (given.empty()) return Row(size_t(size), 0.0);
    return Row(given.begin() + b * size, given.begin() + (b + 1) * size);
  }
  void add_to(Trial& trial) const {
    const auto matrix = [&](const std::vector<float>& given) { return given.empty() ? Shape{0} : Shape{batch, size}; };
    trial.in(x, {length, batch, inputs}).in(weight, {gates * size, inputs}).in(recurrence, {gates * size, size});
    trial.in(bias, {int64_t(bias.size())}).in(lengths, {int64_t(lengths.size())}).in(state, matrix(state));
    if (gates == 4) trial.in(cell, matrix(cell)).in(peepholes, {int64_t(peepholes.size())});
  }

  int64_t gates, length, batch, inputs, size;
  std::vector<float> x, weight, recurrence, bias, state, cell, peepholes;
  std::vector<int32_t> lengths;
};

// The states after one step from those before.
struct States {
  Row h, c;
};
States lstm(const Layer& l, int64_t step, int64_t b, const States& before) {
  States after = before;
  for (int64_t u = 0; u < l.size; ++u) {
    const auto total = [&](int64_t gate) {
      return l.by_input(step, b, gate * l.size + u) + l.by_state(before.h, gate * l.size + u);
    };
    const double c = before.c[size_t(u)], forget = sigmoid(total(2) + l.peephole(2, u) * c);
    const double new_c = forget * c + sigmoid(total(0) + l.peephole(0, u) * c) * std::tanh(total(3));
    after.c[size_t(u)] = new_c;
    after.h[size_t(u)] = sigmoid(total(1) + l.peephole(1, u) * new_c) * std::tanh(new_c);
  }
  return after;
}
States gru(const Layer& l, int64_t step, int64_t b, const States& before, bool linear) {
  States after = before;
  Row reset = before.h;
  const auto gate = [&](int64_t number, int64_t u) {
    return sigmoid(l.by_input(step, b, number * l.size + u) + l.by_state(before.h, number * l.size + u));
  };
  for (int64_t u = 0; u < l.size; ++u) reset[size_t(u)] *= gate(1, u);
  for (int64_t u = 0; u < l.size; ++u) {
    const int64_t row = 2 * l.size + u;
    const double by_state = linear ? gate(1, u) * l.by_state(before.h, row) : l.by_state(reset, row);
    const double z = gate(0, u), hidden = std::tanh(l.by_input(step, b, row) + by_state);
    after.h[size_t(u)] = (1 - z) * hidden + z * before.h[size_t(u)];
  }
  return after;
}
States rnn(const Layer& l, int64_t step, int64_t b, const States& before, bool is_rectified) {
  States after = before;
  for (int64_t u = 0; u < l.size; ++u) {
    const double total = l.by_input(step, b, u) + l.by_state(before.h, u);
    after.h[size_t(u)] = is_rectified ? std::max(total, 0.0) : std::tanh(total);
  }
  return after;
}

void check(const Layer& l, bool reverse, bool variety) {
  std::vector<double> outputs(size_t(l.length * l.batch * l.size)), last, cells;
  for (int64_t b = 0; b < l.batch; ++b) {
    States states = {l.first(l.state, b), l.first(l.cell, b)};
    for (int64_t i = 0; i < l.length; ++i) {
      const int64_t step = reverse ? l.length - 1 - i : i;
      if (!l.lengths.empty() && step >= l.lengths[size_t(b)]) continue;
      states = l.gates == 4   ? lstm(l, step, b, states)
               : l.gates == 3 ? gru(l, step, b, states, variety)
                              : rnn(l, step, b, states, variety);
      std::copy(states.h.begin(), states.h.end(), outputs.begin() + (step * l.batch + b) * l.size);
    }
    last.insert(last.end(), states.h.begin(), states.h.end());
    cells.insert(cells.end(), states.c.begin(), states.c.end());
  }
  std::vector<PxAttr> attrs = {attr(int64_t(reverse))};
  if (l.gates != 4) attrs.push_back(attr(int64_t(variety)));
  std::vector<float> y, h, c;
  Trial trial(l.gates == 4 ? "lstm" : l.gates == 3 ? "gru" : "rnn", attrs);
  l.add_to(trial);
  trial.out(y, {l.length, l.batch, l.size}).out(h, {l.batch, l.size});
  if (l.gates == 4) trial.out(c, {l.batch, l.size});
  trial.run(pool_for(l.size + l.inputs), [&] {
    return all_close(y, outputs, 1e-5, 4e-6) && all_close(h, last, 1e-5, 4e-6) && all_close(c, cells, 1e-5, 4e-6);
  });
}

}  // namespace

int main() {
  for (int64_t gates : {4, 3, 1}) {
    for (int64_t size = 1; size <= 34; ++size)
      check({gates, 2, 2, 5, size, size % 2 == 0}, size % 3 == 0, size % 4 < 2);
    for (int64_t size : {47, 48, 49, 63, 64, 65}) check({gates, 1, 1, 3, size, size % 2 == 0}, false, size % 3 == 0);
    for (int64_t inputs = 1; inputs <= 34; ++inputs)
      check({gates, 2, 2, inputs, 5, inputs % 2 == 1}, false, inputs % 4 < 2);
    for (int64_t batch = 1; batch <= 26; ++batch) check({gates, 1, batch, 3, 17, batch % 2 == 0}, true, batch % 4 < 2);
    for (int64_t length = 0; length <= 4; ++length) check({gates, length, 2, 3, 9, false}, length % 2 == 0, false);
  }
  return 0;
}
