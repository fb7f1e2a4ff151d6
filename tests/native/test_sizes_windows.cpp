// Convolutions, pools and resampling at every size around their tiles, against plain loops in double.
#include <algorithm>

#include "sweep.hpp"

using namespace perfx_test;

namespace {

// Along one spatial axis.
struct Axis {
  int64_t size, taps = 1, stride = 1, dilation = 1, begin = 0, end = 0;
  int64_t places() const {
    const int64_t room = size + begin + end - (taps - 1) * dilation - 1;
    return room < 0 ? 0 : room / stride + 1;
  }
  int64_t position(int64_t place, int64_t tap) const { return place * stride + tap * dilation - begin; }
};
using Axes = std::vector<Axis>;

std::vector<PxAttr> list(const std::vector<int64_t>& numbers) {
  std::vector<PxAttr> attrs = {attr(int64_t(numbers.size()))};
  for (int64_t number : numbers) attrs.push_back(attr(number));
  attrs.resize(1 + PERFX_MAX_LIST, attr(int64_t(0)));
  return attrs;
}
void append(std::vector<PxAttr>& to, const std::vector<PxAttr>& more) { to.insert(to.end(), more.begin(), more.end()); }

// Strides, dilations, pads: what all of them take.
std::vector<PxAttr> window_attrs(const Axes& axes) {
  std::vector<int64_t> strides, dilations, pads;
  for (const Axis& axis : axes) strides.push_back(axis.stride), dilations.push_back(axis.dilation);
  for (const Axis& axis : axes) pads.push_back(axis.begin);
  for (const Axis& axis : axes) pads.push_back(axis.end);
  std::vector<PxAttr> attrs = list(strides);
  append(attrs, list(dilations));
  append(attrs, list(pads));
  return attrs;
}

Shape shape_of(int64_t first, int64_t second, const Axes& axes, int64_t (*of)(const Axis&)) {
  Shape shape = {first, second};
  for (const Axis& axis : axes) shape.push_back(of(axis));
  return shape;
}
int64_t size_of(const Axis& axis) { return axis.size; }
int64_t taps_of(const Axis& axis) { return axis.taps; }
int64_t places_of(const Axis& axis) { return axis.places(); }

int64_t product(const Axes& axes, int64_t (*of)(const Axis&)) {
  int64_t result = 1;
  for (const Axis& axis : axes) result *= of(axis);
  return result;
}

// Calls body(tap, position) for each tap of a place that lies within the input; `position` counts in one plane.
template <class Body>
void for_taps(const Axes& axes, int64_t place, Body body) {
  std::vector<int64_t> places;
  for (size_t i = axes.size(); i-- > 0; place /= axes[i].places())
    places.insert(places.begin(), place % axes[i].places());
  for (int64_t tap = 0; tap < product(axes, taps_of); ++tap) {
    int64_t position = 0, rest = tap, scale = 1;
    bool is_inside = true;
    for (size_t i = axes.size(); i-- > 0; rest /= axes[i].taps, scale *= axes[i].size) {
      const int64_t at = axes[i].position(places[i], rest % axes[i].taps);
      is_inside = is_inside && at >= 0 && at < axes[i].size;
      position += at * scale;
    }
    if (is_inside) body(tap, position);
  }
}

// ---- convolution

struct Convolution {
  int64_t batch, groups, channels, filters; /* channels and filters of a group */
  Axes axes;
};

void check_convolution(const Convolution& c) {
  const int64_t plane = product(c.axes, size_of), taps = product(c.axes, taps_of), places = product(c.axes, places_of);
  const int64_t all_filters = c.groups * c.filters, all_channels = c.groups * c.channels;
  const bool has_bias = (c.filters + places) % 2 == 0;
  const std::vector<float> x = random_floats(size_t(c.batch * all_channels * plane), 1, -1, 1),
                           weight = random_floats(size_t(all_filters * c.channels * taps), 2, -1, 1),
                           bias = random_floats(has_bias ? size_t(all_filters) : 0, 3);
  std::vector<double> expected;
  for (int64_t i = 0; i < c.batch * all_filters * places; ++i) {
    const int64_t filter = i / places % all_filters, n = i / places / all_filters, group = filter / c.filters;
    double sum = has_bias ? bias[size_t(filter)] : 0;
    for_taps(c.axes, i % places, [&](int64_t tap, int64_t position) {
      for (int64_t k = 0; k < c.channels; ++k) {
        sum += double(weight[size_t((filter * c.channels + k) * taps + tap)]) *
               x[size_t((n * all_channels + group * c.channels + k) * plane + position)];
      }
    });
    expected.push_back(sum);
  }
  std::vector<PxAttr> attrs = window_attrs(c.axes);
  attrs.push_back(attr(c.groups));
  std::vector<float> y;
  const double absolute = 2e-7 * std::sqrt(double(c.channels * taps)) + 1e-6;
  Trial("convolution", attrs)
      .in(x, shape_of(c.batch, all_channels, c.axes, size_of))
      .in(weight, shape_of(all_filters, c.channels, c.axes, taps_of))
      .in(bias, {has_bias ? all_filters : 0})
      .out(y, shape_of(c.batch, all_filters, c.axes, places_of))
      .run(pool_for(places + c.filters), [&] { return all_close(y, expected, 4e-6, absolute); });
}

void check_convolutions() {
  // places: a tile has up to eight vectors of 16; pointwise, where rows are joined, and with windows
  for (int64_t size : sizes_around(130, 256)) {
    if (size == 0) continue;
    check_convolution({size % 3, 1, 3, 1 + size % 9, {{1 + size % 2}, {size}}});
    check_convolution({1, 1, 2, 1 + size % 3, {{size, 3, 1, 1, 1, 1}}});
    check_convolution({1, 1 + size % 3, 1, 1, {{2 + size % 4, 3, 1, 1, 1, 1}, {size, 3, 1, 1, 1, 1}}}); /* depthwise */
  }
  // strides, dilations and pads: which items of a row are copied
  for (int64_t size = 1; size <= 40; ++size) {
    for (int64_t stride : {1, 2, 3}) {
      for (int64_t dilation : {1, 2, 3}) {
        const Axis columns = {size, 1 + size % 3, stride, dilation, size % 2 * 2, 1 + size % 4};
        if (columns.places() > 0) check_convolution({1, 1, 2, 3, {{5, 2, stride, 1, 1, 0}, columns}});
      }
    }
  }
  // filters: panels of up to twelve
  for (int64_t filters = 1; filters <= 26; ++filters) {
    check_convolution({2, 1, 3, filters, {{4, 2}, {17, 3, 1, 1, 1, 1}}});
    check_convolution({1, 2, 2, filters, {{33}}});
  }
  // channels: packed two vectors at a time, in blocks of 640 positions
  for (int64_t channels : sizes_around(34, 64)) {
    if (channels > 0) check_convolution({1, 1, channels, 9, {{9, 3, 1, 1, 1, 1}}});
    if (channels > 0) check_convolution({1, 1, channels, 16, {{17}}});
  }
  for (int64_t channels : {639, 640, 641, 1281}) check_convolution({1, 1, channels, 13, {{18}}});
  for (int64_t size = 1; size <= 5; ++size) {
    check_convolution({1, 1, 2, 3, {{size, 2, 1, 1, 1, 0}, {4, 2}, {15 + size, 3, 2, 1, 1, 1}}});
  }
}

// ---- pools

void check_pool(const Axes& axes, int64_t mode, bool with_pads) {
  const int64_t planes = 2, plane = product(axes, size_of), places = product(axes, places_of);
  const std::vector<float> x = random_floats(size_t(planes * plane), 4);
  std::vector<double> expected;
  std::vector<int64_t> expected_indices, indices;
  for (int64_t i = 0; i < planes * places; ++i) {
    double sum = 0, best = -INFINITY;
    int64_t count = 0, where = -1;
    for_taps(axes, i % places, [&](int64_t, int64_t position) {
      const double value = x[size_t(i / places * plane + position)];
      if (value > best) where = i / places * plane + position;
      best = std::max(best, value);
      sum += value;
      ++count;
    });
    if (with_pads) count = product(axes, taps_of);
    expected.push_back(mode == 0 ? best : sum / double(count));
    expected_indices.push_back(where);
  }
  std::vector<int64_t> window;
  for (const Axis& axis : axes) window.push_back(axis.taps);
  std::vector<PxAttr> attrs = list(window);
  append(attrs, window_attrs(axes));
  attrs.push_back(attr(int64_t(0))); /* ceil_mode */
  std::vector<float> y;
  const Shape from = shape_of(1, planes, axes, size_of), to = shape_of(1, planes, axes, places_of);
  if (mode == 0) {
    Trial("max_pool_with_indices", attrs).in(x, from).out(y, to).out(indices, to).run(pool_for(places), [&] {
      return all_close(y, expected, 0) && indices == expected_indices;
    });
  }
  attrs.insert(attrs.begin(), attr(mode));
  append(attrs, {attr(int64_t(with_pads)), attr(int64_t(2))});
  Trial("pool", attrs).in(x, from).out(y, to).run(pool_for(places), [&] { return all_close(y, expected, 2e-6, 1e-6); });
}

void check_pools() {
  for (int64_t mode : {0, 1}) {
    for (int64_t size : sizes_around(66, 256)) {
      if (size == 0) continue;
      for (int64_t taps : {1, 2, 3}) {
        for (int64_t stride : {1, 2, 3}) {
          const Axis columns = {size, taps, stride, 1 + size % 2, (taps - 1) / 2, taps / 2};
          if (columns.places() > 0) check_pool({{3 + size % 3, 2, stride, 1, 1, 0}, columns}, mode, size % 2 == 0);
        }
      }
      check_pool({{size, 2, 1, 1, 1, 0}}, mode, false);
      if (size < 20) check_pool({{2, 2}, {3, 2, 2, 1, 1, 1}, {size, 2, 1, 1, 1, 1}}, mode, true);
    }
  }
}

// ---- resampling

void check_resampling(int64_t places, int64_t inner, int64_t taps) {
  const int64_t outer = 2, size = 7;
  const std::vector<float> x = random_floats(size_t(outer * size * inner), 1),
                           weights = random_floats(size_t(places * taps), 2);
  Random random(3);
  std::vector<int32_t> indices;
  for (int64_t i = 0; i < places * taps; ++i) indices.push_back(int32_t(random.below(size)));
  std::vector<double> expected;
  for (int64_t i = 0; i < outer * places * inner; ++i) {
    const int64_t place = i / inner % places;
    double sum = 0;
    for (int64_t t = 0; t < taps; ++t) {
      const int64_t from = indices[size_t(place * taps + t)];
      sum +=
          double(weights[size_t(place * taps + t)]) * x[size_t((i / inner / places * size + from) * inner + i % inner)];
    }
    expected.push_back(sum);
  }
  std::vector<float> y;
  Trial("resample", {attr(int64_t(1))})
      .in(x, {outer, size, inner})
      .in(indices, {places, taps})
      .in(weights, {places, taps})
      .out(y, {outer, places, inner})
      .run(pool_for(places + inner), [&] { return all_close(y, expected, 1e-6, 2e-6); });
}

// A result without places is none that the ops give, and is refused.
void check_refusals() {
  std::vector<float> x(4), weight(1), y;
  std::vector<PxAttr> attrs = window_attrs({{0}});
  std::vector<PxAttr> pool_attrs = list({1});
  append(pool_attrs, attrs);
  pool_attrs.push_back(attr(int64_t(0)));
  attrs.push_back(attr(int64_t(1)));
  Call convolution(3, {tensor(x, {1, 1, 0}), tensor(weight, {1, 1, 1}), tensor(y, {0}), tensor(y, {1, 1, 0})}, attrs);
  std::vector<int64_t> indices;
  Call pool(1, {tensor(x, {1, 1, 0}), tensor(y, {1, 1, 0}), tensor(indices.data(), PX_INT64, {1, 1, 0})}, pool_attrs);
  for (const Candidate& candidate : kernels_of("convolution")) {
    CHECK(candidate.kernel->accepts(&convolution.call) == PX_UNSUPPORTED);
  }
  for (const Candidate& candidate : kernels_of("max_pool_with_indices")) {
    CHECK(candidate.kernel->accepts(&pool.call) == PX_UNSUPPORTED);
  }
}

}  // namespace

int main() {
  check_refusals();
  check_convolutions();
  check_pools();
  for (int64_t size : sizes_around(66, 1024)) {
    check_resampling(size, 1, 1 + size % 4);
    check_resampling(3, size, 1 + size % 4);
  }
  return 0;
}
