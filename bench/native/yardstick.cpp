// What this machine can do at most at this moment, as JSON: bytes read from memory a second, and operations a second of
// its fastest float32 and int8 multiply-add (0: not known here), by one thread and by all of them.
//
//   c++ -std=c++17 -O3 -pthread bench/native/yardstick.cpp -o yardstick && ./yardstick [threads]
#include "yardsticks.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace {

constexpr int64_t kBytes = int64_t(256) << 20;  // several times the last-level cache
constexpr double kSeconds = 0.6;                // for each figure

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

class Barrier {
 public:
  explicit Barrier(int count) : count_(count) {}
  void wait() {
    const int round = round_.load();
    if (arrived_.fetch_add(1) + 1 == count_) {
      arrived_.store(0);
      round_.fetch_add(1);
    }
    while (round_.load() == round) {
    }
  }

 private:
  const int count_;
  std::atomic<int> arrived_{0}, round_{0};
};

// The shortest time in which all threads do work(thread).
template <class Work>
double fastest(int num_threads, const Work& work) {
  Barrier barrier(num_threads);
  std::atomic<bool> done{false};
  double best = 1e9;
  const auto loop = [&](int thread) {
    const double start = now();
    while (true) {
      barrier.wait();
      if (done.load()) return;
      const double begin = now();
      work(thread);
      barrier.wait();
      if (thread == 0) {
        best = std::min(best, now() - begin);
        done.store(now() - start > kSeconds);
      }
    }
  };
  std::vector<std::thread> others;
  for (int thread = 1; thread < num_threads; ++thread) others.emplace_back(loop, thread);
  loop(0);
  for (std::thread& other : others) other.join();
  return best;
}

double read_speed(int num_threads, const uint64_t* words) {
  const int64_t lines = kBytes / 64 / num_threads;
  std::vector<uint64_t> sums(size_t(num_threads) * 8);
  const double seconds = fastest(num_threads, [&](int thread) {
    sums[size_t(thread) * 8] += yardsticks::read_lines(words + thread * lines * 8, lines);
  });
  if (sums[0] == 42) std::puts("");  // so that the sums are wanted
  return double(lines * 64 * num_threads) / seconds;
}

double multiply_speed(int num_threads, const yardsticks::Multiply& multiply) {
  if (multiply.run == nullptr) return 0;
  return multiply.operations * num_threads / fastest(num_threads, [&](int) { multiply.run(); });
}

}  // namespace

int main(int argc, char** argv) {
  const int most = argc > 1 ? std::max(1, std::atoi(argv[1])) : int(std::max(1U, std::thread::hardware_concurrency()));
  void* memory = std::aligned_alloc(size_t(2) << 20, size_t(kBytes));
  if (memory == nullptr) return 1;
#if defined(__linux__)
  madvise(memory, size_t(kBytes), MADV_HUGEPAGE);
#endif
  std::memset(memory, 1, size_t(kBytes));
  const auto print = [&](const char* name, int threads, const char* end) {
    std::printf("\"%s\": {\"threads\": %d, \"read_bytes\": %.6g, ", name, threads,
                read_speed(threads, static_cast<const uint64_t*>(memory)));
    std::printf("\"float32_operations\": %.6g, ", multiply_speed(threads, yardsticks::float_multiply()));
    std::printf("\"int8_operations\": %.6g}%s", multiply_speed(threads, yardsticks::byte_multiply()), end);
  };
  std::printf("{");
  print("one", 1, ", ");
  print("all", most, "}\n");
  std::free(memory);
  return 0;
}
