/* The thread pool of a host backend: the caller is thread 0, workers spin for a while and then sleep.
 *
 * A job is run by all threads at once; within it they meet at a barrier. Threads may outnumber free processors: every
 * spin yields after a while, so a thread that was taken off its processor is never waited for by burning its time.
 *
 * fork(): a child has none of the parent's workers. The pool notices and starts its own at the child's first job.
 * exit: workers touch only the pool, which lives until perfx_pool_destroy; a pool that was never destroyed is harmless.
 */
#ifndef PERFX_THREAD_POOL_HPP
#define PERFX_THREAD_POOL_HPP

#include <pthread.h>
#include <sched.h>
#include <time.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include "perfx/abi.h"

namespace perfx {

inline int64_t now_ns() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return int64_t(time.tv_sec) * 1000000000 + time.tv_nsec;
}

/* Tells the processor that this is a waiting loop. */
inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield" ::: "memory");
#elif defined(__riscv)
  asm volatile(".word 0x0100000f" ::: "memory"); /* pause, a hint that older cores ignore */
#endif
}

/* One iteration of a wait: relaxes at first, later gives the processor away. */
class Backoff {
 public:
  void wait() {
    if (++num_waits_ < kSpins) {
      relax();
    } else {
      sched_yield();
    }
  }

 private:
  static constexpr int kSpins = 1000;
  int num_waits_ = 0;
};

/* A barrier that can be used again at once, and that a thread can leave for the rest of the job. */
class Barrier {
 public:
  /* Only while no thread is inside. */
  void reset(int32_t num_threads) {
    expected_.store(num_threads, std::memory_order_relaxed);
    missing_.store(num_threads, std::memory_order_relaxed);
  }

  /* Returns when all threads that have not left have arrived. */
  void arrive_and_wait() {
    const uint32_t phase = phase_.load(std::memory_order_relaxed);
    if (arrive(phase)) return;
    Backoff backoff;
    while (phase_.load(std::memory_order_acquire) == phase) backoff.wait();
  }

  /* Arrives for the last time: the others no longer wait for this thread. */
  void leave() {
    expected_.fetch_sub(1, std::memory_order_relaxed);
    arrive(phase_.load(std::memory_order_relaxed));
  }

 private:
  /* True for the last one to arrive, which opens the next phase. */
  bool arrive(uint32_t phase) {
    if (missing_.fetch_sub(1, std::memory_order_acq_rel) != 1) return false;
    missing_.store(expected_.load(std::memory_order_relaxed), std::memory_order_relaxed);
    phase_.store(phase + 1, std::memory_order_release);
    return true;
  }

  alignas(64) std::atomic<int32_t> missing_{0};
  std::atomic<int32_t> expected_{0};
  alignas(64) std::atomic<uint32_t> phase_{0};
};

/* What a job returned: the smallest node at which a thread failed, and that thread's status. */
class Outcome {
 public:
  void reset() { value_.store(kNone, std::memory_order_relaxed); }

  void fail(int32_t node, int32_t thread, int32_t status) {
    const uint64_t mine = uint64_t(uint32_t(node)) << 32 | uint64_t(thread & 0xffff) << 16 | uint64_t(status & 0xffff);
    uint64_t seen = value_.load(std::memory_order_relaxed);
    while (mine < seen && !value_.compare_exchange_weak(seen, mine, std::memory_order_relaxed)) {
    }
  }

  bool failed_before(int32_t node) const { return value_.load(std::memory_order_relaxed) >> 32 < uint32_t(node); }
  int32_t status() const { return ok() ? PX_OK : int32_t(value_.load(std::memory_order_relaxed) & 0xffff); }
  int32_t node() const { return int32_t(value_.load(std::memory_order_relaxed) >> 32); }

 private:
  static constexpr uint64_t kNone = ~uint64_t(0);
  bool ok() const { return value_.load(std::memory_order_relaxed) == kNone; }
  std::atomic<uint64_t> value_{kNone};
};

/* Keeps free workers off the processor of the thread that wakes them. A scheduler that takes the machine for busy, as
 * it does for some 100 ms after other threads spun on it, may wake a worker on its caller's processor: the two would
 * share it for many jobs while another one is idle. Not for more threads than processors, which have to share. */
class Away {
 public:
#if defined(__linux__)
  void allow(int32_t num_threads) {
    CPU_ZERO(&allowed_);
    is_used_ = sched_getaffinity(0, sizeof(allowed_), &allowed_) == 0 && num_threads <= CPU_COUNT(&allowed_);
  }
  void from_caller(std::vector<std::thread>& workers) {
    const int32_t here = is_used_ ? sched_getcpu() : -1;
    if (here < 0 || here >= CPU_SETSIZE || here == left_) return;
    cpu_set_t others = allowed_;
    CPU_CLR(here, &others);
    if (CPU_COUNT(&others) == 0) return;
    for (std::thread& worker : workers) pthread_setaffinity_np(worker.native_handle(), sizeof(others), &others);
    left_ = here;
  }

 private:
  cpu_set_t allowed_;
  int32_t left_ = -1; /* the processor that workers stay away from */
  bool is_used_ = false;
#else
  void allow(int32_t) {}
  void from_caller(std::vector<std::thread>&) {}
#endif
};

/* The workers and what they share. Thread `index` of `count` runs job(context, index). */
class Team {
 public:
  using Job = void (*)(void* context, int32_t index);

  Team(int32_t num_threads, const std::vector<int32_t>& cpus, int64_t spin_ns)
      : spin_ns_(spin_ns), count_(num_threads) {
    if (cpus.back() < 0) away_.allow(num_threads);
    try {
      for (int32_t index = 1; index < num_threads; ++index) {
        workers_.emplace_back([this, index, cpu = cpus[index]] { work(index, cpu); });
      }
    } catch (...) {
      stop();
      throw;
    }
  }
  ~Team() { stop(); }
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int32_t count() const { return count_; }
  Barrier& barrier() { return barrier_; }

  /* Runs a job on all threads and returns when all have finished. */
  void run(Job job, void* context) {
    barrier_.reset(count_);
    if (count_ > 1) {
      job_ = job;
      context_ = context;
      working_.store(count_ - 1, std::memory_order_relaxed);
      wake();
    }
    job(context, 0);
    Backoff backoff;
    while (working_.load(std::memory_order_acquire) != 0) backoff.wait();
  }

  /* Pins the calling thread to a processor; a negative number leaves it free. */
  static void pin(int32_t cpu) {
#if defined(__linux__)
    if (cpu < 0 || cpu >= CPU_SETSIZE) return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    pthread_setaffinity_np(pthread_self(), sizeof(set), &set); /* refused: the thread stays free */
#else
    (void)cpu;
#endif
  }

 private:
  void wake() {
    epoch_.fetch_add(1, std::memory_order_seq_cst);
    if (sleeping_.load(std::memory_order_seq_cst) == 0) return;
    away_.from_caller(workers_);
    std::lock_guard<std::mutex> lock(sleep_mutex_);
    sleep_condition_.notify_all();
  }

  void work(int32_t index, int32_t cpu) {
    pin(cpu);
    uint32_t seen = 0;
    for (;;) {
      seen = await_epoch(seen);
      if (stopping_.load(std::memory_order_relaxed)) return;
      job_(context_, index);
      working_.fetch_sub(1, std::memory_order_release);
    }
  }

  /* Waits for an epoch other than `seen`: spins for spin_ns_, then sleeps. */
  uint32_t await_epoch(uint32_t seen) {
    const int64_t deadline = now_ns() + spin_ns_;
    Backoff backoff;
    for (uint32_t spins = 1;; ++spins) {
      const uint32_t epoch = epoch_.load(std::memory_order_acquire);
      if (epoch != seen) return epoch;
      if (spins % 16 == 0 && now_ns() >= deadline) break;
      backoff.wait();
    }
    std::unique_lock<std::mutex> lock(sleep_mutex_);
    sleeping_.fetch_add(1, std::memory_order_seq_cst);
    sleep_condition_.wait(lock, [&] { return epoch_.load(std::memory_order_seq_cst) != seen; });
    sleeping_.fetch_sub(1, std::memory_order_relaxed);
    return epoch_.load(std::memory_order_acquire);
  }

  void stop() {
    stopping_.store(true, std::memory_order_relaxed);
    wake();
    for (std::thread& worker : workers_) worker.join();
    workers_.clear();
  }

  alignas(64) std::atomic<uint32_t> epoch_{0};
  Job job_ = nullptr;
  void* context_ = nullptr;
  std::atomic<bool> stopping_{false};
  alignas(64) std::atomic<int32_t> working_{0};
  alignas(64) std::atomic<int32_t> sleeping_{0};
  Barrier barrier_;
  std::mutex sleep_mutex_;
  std::condition_variable sleep_condition_;
  const int64_t spin_ns_;
  const int32_t count_;
  Away away_;
  std::vector<std::thread> workers_;
};

}  // namespace perfx

/* A team that may be used from several threads of the program, one job at a time. */
struct PxPool {
 public:
  /* Throws std::system_error or std::bad_alloc when out of resources. */
  PxPool(int32_t num_threads, const int32_t* cpus, int64_t spin_us)
      : cpus_(num_threads, -1), spin_ns_(spin_us * 1000), turn_(std::make_unique<std::mutex>()) {
    if (cpus != nullptr) cpus_.assign(cpus, cpus + num_threads);
    perfx::Team::pin(cpus_[0]);
    team_ = std::make_unique<perfx::Team>(num_threads, cpus_, spin_ns_);
    registry().add(this);
  }
  ~PxPool() {
    registry().remove(this);
    if (forked_) drop_inherited();
  }
  PxPool(const PxPool&) = delete;
  PxPool& operator=(const PxPool&) = delete;

  int32_t num_threads() const { return int32_t(cpus_.size()); }
  int64_t native_ns() const { return native_ns_.load(std::memory_order_relaxed); }

  /* Calls body(team) on the calling thread while no other thread of the program uses the team. Returns its result, or
   * PX_OUT_OF_MEMORY when a forked child cannot start its workers. */
  template <class Body>
  int32_t exclusive(Body body) {
    std::lock_guard<std::mutex> lock(*turn_);
    const int64_t begin = perfx::now_ns();
    try {
      if (forked_) restart();
    } catch (const std::exception&) {
      return PX_OUT_OF_MEMORY;
    }
    const int32_t status = body(*team_);
    native_ns_.fetch_add(perfx::now_ns() - begin, std::memory_order_relaxed);
    return status;
  }

 private:
  /* All pools of the process, so that a forked child can mark them. Never destroyed: pools may outlive main(). */
  class Registry {
   public:
    Registry() { pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child); }
    void add(PxPool* pool) {
      std::lock_guard<std::mutex> lock(mutex_);
      pools_.push_back(pool);
    }
    void remove(PxPool* pool) {
      std::lock_guard<std::mutex> lock(mutex_);
      for (PxPool*& other : pools_) {
        if (other == pool) {
          other = pools_.back();
          pools_.pop_back();
          return;
        }
      }
    }

   private:
    static void before_fork() { registry().mutex_.lock(); }
    static void after_fork_in_parent() { registry().mutex_.unlock(); }
    static void after_fork_in_child() {
      for (PxPool* pool : registry().pools_) pool->forked_ = true;
      for (PxPool* pool : registry().pools_) pool->renew_turn();
      registry().mutex_.unlock();
    }
    std::mutex mutex_;
    std::vector<PxPool*> pools_;
  };

  static Registry& registry() {
    static Registry* const instance = new Registry;
    return *instance;
  }

  /* In a forked child the mutex may be held by a thread that is not there. */
  void renew_turn() {
    (void)turn_.release();
    turn_ = std::make_unique<std::mutex>();
  }

  /* The inherited team's threads do not exist here: it can be neither joined nor destroyed. */
  void drop_inherited() { (void)team_.release(); }

  void restart() {
    drop_inherited();
    team_ = std::make_unique<perfx::Team>(num_threads(), cpus_, spin_ns_);
    forked_ = false;
  }

  std::vector<int32_t> cpus_;
  const int64_t spin_ns_;
  std::unique_ptr<std::mutex> turn_;
  std::unique_ptr<perfx::Team> team_;
  bool forked_ = false;
  std::atomic<int64_t> native_ns_{0};
};

#endif
