/* A machine of one multiprocessor: each thread of a block is a fiber with a stack of its own, and goes on until it
 * waits at a barrier. Blocks run one after another, with shared memory that holds NaN at first. The order of threads is
 * reversed from one launch, block and barrier to the next, so that what only one order makes right comes to light. */

#undef _FORTIFY_SOURCE /* which takes jumps from stack to stack for mistakes */
#include "machine.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

namespace machine {

uint3 thread_id, block_id;
dim3 block_size, grid_size;

namespace {

constexpr unsigned max_threads = 1024, warp_size = 32;
constexpr size_t stack_bytes = 128 << 10, page_bytes = 4096;

enum class State { ready, at_block, at_warp, done };

struct Fiber {
  jmp_buf context;
  uint3 id;
  State state;
  bool started;
  const char* file;
  int line;
  unsigned value;
};

Fiber fibers[max_threads];
char* stacks;
jmp_buf scheduler;
unsigned running, num_threads, launches;
void (*body)(void*);
void* context;
char problem[256];

void fail(const char* what, const char* file, int line) {
  if (!problem[0]) snprintf(problem, sizeof problem, "%s:%d: %s", file, line, what);
}

/* A fiber lives on from block to block. */
void live() {
  for (;;) {
    body(context);
    fibers[running].state = State::done;
    if (!_setjmp(fibers[running].context)) _longjmp(scheduler, 1);
  }
}

void wait(State state) {
  fibers[running].state = state;
  if (!_setjmp(fibers[running].context)) _longjmp(scheduler, 1);
}

void start(unsigned number) {
  ucontext_t fresh;
  getcontext(&fresh);
  /* a guard takes two of the maps that a process may have: only stacks in use get one */
  mprotect(stacks + number * stack_bytes, page_bytes, PROT_NONE);
  fresh.uc_stack.ss_sp = stacks + number * stack_bytes + page_bytes;
  fresh.uc_stack.ss_size = stack_bytes - page_bytes;
  fresh.uc_link = nullptr;
  makecontext(&fresh, live, 0);
  fibers[number].started = true;
  setcontext(&fresh);
}

void resume(unsigned number) {
  Fiber& fiber = fibers[number];
  running = number;
  thread_id = fiber.id;
  if (_setjmp(scheduler)) return;
  if (fiber.started) _longjmp(fiber.context, 1);
  start(number);
}

/* Lets every warp go on that waits as a whole; says whether there was one. */
bool release_warps() {
  bool released = false;
  for (unsigned first = 0; first < num_threads; first += warp_size) {
    unsigned end = first + warp_size < num_threads ? first + warp_size : num_threads, waiting = 0;
    for (unsigned t = first; t < end; ++t) waiting += fibers[t].state == State::at_warp;
    if (waiting < end - first) continue;
    for (unsigned t = first; t < end; ++t) fibers[t].state = State::ready;
    released = true;
  }
  return released;
}

/* Lets the block go on that waits at one barrier; says whether there are threads to run. */
bool release_block() {
  unsigned waiting = 0, done = 0;
  const Fiber* first = nullptr;
  for (unsigned t = 0; t < num_threads; ++t) {
    const Fiber& fiber = fibers[t];
    done += fiber.state == State::done;
    if (fiber.state != State::at_block) continue;
    if (!first) first = &fiber;
    if (fiber.line != first->line || strcmp(fiber.file, first->file))
      fail("threads of a block wait at different barriers", fiber.file, fiber.line);
    ++waiting;
  }
  if (done == num_threads || problem[0]) return false;
  if (waiting < num_threads) {
    if (first)
      fail("not all threads of the block come to this barrier", first->file, first->line);
    else
      fail("not all threads of the warp take part", "a shuffle", 0);
    return false;
  }
  for (unsigned t = 0; t < num_threads; ++t) fibers[t].state = State::ready;
  return true;
}

void run_block(unsigned turn) {
  for (unsigned t = 0; t < num_threads; ++t) fibers[t].state = State::ready;
  do {
    do {
      for (unsigned t = 0; t < num_threads; ++t) {
        unsigned number = turn % 2 ? num_threads - 1 - t : t;
        if (fibers[number].state == State::ready) resume(number);
      }
    } while (release_warps());
    ++turn;
  } while (release_block());
  if (problem[0])
    for (Fiber& fiber : fibers) fiber.started = false; /* some stopped in the middle */
}

const char* prepare(const unsigned* sizes) {
  problem[0] = 0;
  grid_size = {sizes[0], sizes[1], sizes[2]};
  block_size = {sizes[3], sizes[4], sizes[5]};
  num_threads = sizes[3] * sizes[4] * sizes[5];
  if (num_threads == 0 || num_threads > max_threads) return "a block has 1 to 1024 threads";
  if (!stacks) {
    void* memory = mmap(nullptr, max_threads * stack_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return "there is no memory for the threads' stacks";
    stacks = static_cast<char*>(memory);
  }
  for (unsigned t = 0; t < num_threads; ++t)
    fibers[t].id = {t % sizes[3], t / sizes[3] % sizes[4], t / (sizes[3] * sizes[4])};
  return nullptr;
}

}  // namespace

void wait_for_block(const char* file, int line) {
  fibers[running].file = file;
  fibers[running].line = line;
  wait(State::at_block);
}

unsigned lane() { return running % warp_size; }

unsigned exchange(unsigned value, unsigned source) {
  unsigned self = running;
  fibers[self].value = value;
  wait(State::at_warp);
  unsigned from = self - self % warp_size + source;
  unsigned taken = from < num_threads ? fibers[from].value : 0;
  wait(State::at_warp); /* nobody gives the next value before all have taken this one */
  return taken;
}

const char* check(const Arguments& given, const unsigned long* widths, int count) {
  problem[0] = 0;
  if (given.count != count)
    snprintf(problem, sizeof problem, "it takes %d arguments and was given %d", count, given.count);
  for (int i = 0; i < count && !problem[0]; ++i)
    if (given.widths[i] != widths[i])
      snprintf(problem, sizeof problem, "argument %d has %lu bytes and was given %lu", i, widths[i], given.widths[i]);
  return problem[0] ? problem : nullptr;
}

const char* run(void (*thread)(void*), void* launch, const unsigned* sizes, char* shared, char* shared_end) {
  if (const char* refusal = prepare(sizes)) return refusal;
  body = thread;
  context = launch;
  unsigned turn = ++launches;
  for (unsigned z = 0; z < sizes[2]; ++z)
    for (unsigned y = 0; y < sizes[1]; ++y)
      for (unsigned x = 0; x < sizes[0] && !problem[0]; ++x) {
        block_id = {x, y, z};
        memset(shared, 0xff, size_t(shared_end - shared));
        run_block(turn++);
      }
  return problem[0] ? problem : nullptr;
}

}  // namespace machine

/* What compilers call where -fsanitize finds something; the layouts are those of LLVM's ubsan_handlers.h. */
struct Place {
  const char* file;
  unsigned line, column;
};

#pragma GCC visibility push(default)
extern "C" {
void __ubsan_handle_type_mismatch_v1(Place* place, void*) {
  machine::fail("an address that is not a multiple of the type's alignment", place->file, int(place->line));
}
void __ubsan_handle_out_of_bounds(Place* place, void*) {
  machine::fail("an index past the end of the array", place->file, int(place->line));
}
void __ubsan_handle_shift_out_of_bounds(Place* place, void*, void*) {
  machine::fail("a shift by more digits than the number has", place->file, int(place->line));
}
}
#pragma GCC visibility pop
