// The pool: every thread takes part, barriers hold, callers wait for each other, sleep and fork do no harm.
#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.hpp"

using namespace perfx_test;

namespace {

constexpr int kItems = 1000;

#if defined(__SANITIZE_THREAD__)
constexpr bool kThreadSanitizer = true;
#else
constexpr bool kThreadSanitizer = false;
#endif

// Each item is claimed once; then, past a barrier, every thread sees all of them.
int32_t claim_all(const PxCall* call, const PxThread* thread) {
  int32_t* seen = static_cast<int32_t*>(call->operands[0].data);
  int32_t* sums = static_cast<int32_t*>(call->operands[1].data);
  for (int64_t i; (i = perfx_claim(thread, 0, 7)) < kItems;) {
    for (int64_t j = i; j < i + 7 && j < kItems; ++j) seen[j] += 1;
  }
  thread->barrier(thread);
  int32_t sum = 0;
  for (int i = 0; i < kItems; ++i) sum += seen[i];
  sums[thread->index] = sum;
  return PX_OK;
}

int32_t fail_on_last(const PxCall*, const PxThread* thread) {
  if (thread->index == thread->count - 1) return PX_KERNEL_ERROR;
  thread->barrier(thread);  // must not wait for the thread that failed
  return PX_OK;
}

int32_t count_calls(const PxCall* call, const PxThread* thread) {
  static_cast<int32_t*>(call->operands[0].data)[thread->index] += 1;
  return PX_OK;
}

void check_claims(PxPool* pool) {
  std::vector<int32_t> seen(kItems), sums(perfx_pool_num_threads(pool));
  Call call(0, {tensor(seen, {kItems}), tensor(sums, {int64_t(sums.size())})});
  CHECK(perfx_pool_run(pool, claim_all, &call.call) == PX_OK);
  for (int32_t count : seen) CHECK(count == 1);
  for (int32_t sum : sums) CHECK(sum == kItems);
}

#if defined(__linux__)
// Which processors the worker may use.
int32_t note_processors(const PxCall* call, const PxThread* thread) {
  if (thread->index == 1) sched_getaffinity(0, sizeof(cpu_set_t), static_cast<cpu_set_t*>(call->operands[0].data));
  return PX_OK;
}

// A worker that slept is woken on another processor than its caller's.
void check_that_workers_stay_away() {
  cpu_set_t all, one, seen;
  CHECK(sched_getaffinity(0, sizeof(all), &all) == 0);
  if (CPU_COUNT(&all) < 2) return;
  Pool pool(2);
  std::thread caller([&] {
    int here = 0;
    while (!CPU_ISSET(here, &all)) ++here;
    CPU_ZERO(&one);
    CPU_SET(here, &one);
    CHECK(pthread_setaffinity_np(pthread_self(), sizeof(one), &one) == 0);
    Call call(0, {tensor(&seen, PX_UINT8, {int64_t(sizeof(seen))})});
    for (int tries = 0; tries < 1000; ++tries) {
      usleep(1000);
      CHECK(perfx_pool_run(pool.pool, note_processors, &call.call) == PX_OK);
      if (!CPU_ISSET(here, &seen)) break;
    }
    CHECK(!CPU_ISSET(here, &seen) && CPU_COUNT(&seen) == CPU_COUNT(&all) - 1);
  });
  caller.join();
}
#else
void check_that_workers_stay_away() {}
#endif

void check_two_callers() {
  Pool pool(3);
  std::vector<int32_t> counts(3);
  Call call(0, {tensor(counts, {3})});
  auto caller = [&] {
    for (int i = 0; i < 500; ++i) CHECK(perfx_pool_run(pool.pool, count_calls, &call.call) == PX_OK);
  };
  std::thread other(caller);
  caller();
  other.join();
  for (int32_t count : counts) CHECK(count == 1000);
}

void check_fork() {
  Pool pool(3);
  check_claims(pool.pool);
  const pid_t child = fork();
  if (child == 0) {
    check_claims(pool.pool);
    _exit(0);
  }
  int status = 1;
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  check_claims(pool.pool);
}

}  // namespace

int main() {
  CHECK(perfx_pool_create(0, nullptr, 0) == nullptr);
  for (int32_t threads : {1, 2, 3, 8}) {
    const std::vector<int32_t> cpus(threads, -1);
    for (int64_t spin_us : {0, 20}) {
      PxPool* pool = perfx_pool_create(threads, cpus.data(), spin_us);
      CHECK(perfx_pool_num_threads(pool) == threads && perfx_pool_native_ns(pool) == 0);
      for (int i = 0; i < 100; ++i) {
        check_claims(pool);
        if (i % 20 == 0) usleep(200);  // lets the workers fall asleep
      }
      Call empty(0, {});
      CHECK(perfx_pool_run(pool, fail_on_last, &empty.call) == PX_KERNEL_ERROR);
      CHECK(perfx_pool_run(pool, nullptr, &empty.call) == PX_DISABLED);
      check_claims(pool);
      CHECK(perfx_pool_native_ns(pool) > 0);
      perfx_pool_destroy(pool);
    }
  }
  check_two_callers();
  check_that_workers_stay_away();
  if (!kThreadSanitizer) check_fork();  // it does not allow threads in a forked child
  perfx_pool_create(2, nullptr, 1000);  // never destroyed: its workers must not disturb the exit
  return 0;
}
