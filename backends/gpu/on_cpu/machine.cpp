// What the machine of machine.h does: it runs the blocks of a launch one after another, their threads as fibers.
//
// MACHINE_WATCHES: every access of a kernel's text to memory is announced (the compiler is given -fsanitize=thread, whose calls end in
// watch.h), and looked at: is it inside of what the launch may touch, was what it reads in shared memory written, and does a barrier
// stand between it and what other threads did there.
#include "machine.h"

#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fibers.h"

#if defined(__ELF__)
// Where this library begins and ends in memory.
extern "C" char __ehdr_start[] __attribute__((visibility("hidden")));
extern "C" char _end[] __attribute__((visibility("hidden")));
#endif

namespace machine {

Thread* current;
Index block, blocks, threads;
unsigned char* shared;

namespace {

constexpr unsigned MOST_THREADS = 1024;
constexpr unsigned MOST_COPIES = 64;
constexpr size_t STACK_NBYTES = 128 * 1024;
constexpr size_t PAGE = 16384;  // a multiple of every page's size

enum State { READY, AT_BARRIER, IN_OPERATION, DONE };
const char* const STATES[] = {"runs", "waits at a barrier", "waits in an operation of its warp", "has ended"};

struct Copy {
  void* target;
  const void* source;
  unsigned nbytes, group;
};

struct Fiber : Thread {
  State state;
  fibers::Context context;
  unsigned mask;
  void* argument;
  Operation operation;
  unsigned group, copies;  // asynchronous copies: the group that is being filled, and how many are pending
  Copy pending[MOST_COPIES];
};

Fiber all[MOST_THREADS];
unsigned count, at_barrier, done;
unsigned order[MOST_THREADS];
unsigned char* stacks;
fibers::Context scheduler;
uint64_t seed, random_state;
size_t shared_nbytes;

void (*entry)(void* const*, const int*);
void* const* table;
constexpr size_t MOST_SLOTS = 1024;
int slots[MOST_SLOTS];

// Barriers that the block has passed, and full synchronisations that each warp has: what orders accesses to memory.
unsigned epoch, warp_epochs[MOST_THREADS / 32];

char* report;
size_t report_nbytes;
bool failed;
volatile bool running;
pthread_t runner;
sigjmp_buf way_out;

Fiber* self() { return static_cast<Fiber*>(current); }

uint64_t random_number() {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  return random_state ^= random_state << 17;
}

void say_list(const char* format, va_list arguments) {
  if (failed) return;
  failed = true;
  size_t at = 0;
  if (current) {
    const Index& t = current->index;
    at = size_t(snprintf(report, report_nbytes, "thread (%u, %u, %u) of block (%u, %u, %u): ", t.x, t.y, t.z, block.x, block.y, block.z));
  }
  vsnprintf(report + at, report_nbytes - at, format, arguments);
}

void say(const char* format, ...) __attribute__((format(printf, 1, 2)));
void say(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  say_list(format, arguments);
  va_end(arguments);
}

void wait_as(State state) {
  Fiber* me = self();
  me->state = state;
  fibers::switch_to(me->context, scheduler);
}

void finish_copies(Fiber* me, unsigned up_to_group);

// Where every fiber begins.
void run_thread() {
  fibers::begin();
  entry(table, slots);
  Fiber* me = self();
  if (me->copies) fault("it ends while %u of its asynchronous copies have not been waited for", me->copies);
  me->state = DONE;
  done++;
  fibers::end(me->context, scheduler);
  abort();
}

unsigned existing(unsigned warp) {
  unsigned rest = count - 32 * warp;
  return rest >= 32 ? 0xffffffffu : (1u << rest) - 1;
}

#ifdef MACHINE_WATCHES
#include "watch.h"
#else
void watch_block() {}
void watch_target(const void*, size_t) {}
void watch_copy(const Copy&) {}
#endif

// One round: every thread that is ready runs to where it waits. Whether one did.
bool run_round() {
  if (seed >= 2) {
    for (unsigned i = count - 1; i > 0; i--) {
      unsigned j = unsigned(random_number() % (i + 1)), kept = order[i];
      order[i] = order[j];
      order[j] = kept;
    }
  }
  bool ran = false;
  for (unsigned i = 0; i < count && !failed; i++) {
    Fiber& fiber = all[order[i]];
    if (fiber.state != READY) continue;
    ran = true;
    current = &fiber;
    fibers::switch_to(scheduler, fiber.context);
    current = nullptr;
  }
  return ran;
}

void explain_deadlock() {
  for (unsigned i = 0; i < count; i++) {
    Fiber& fiber = all[i];
    if (fiber.state != IN_OPERATION) continue;
    for (unsigned lane = 0; lane < 32; lane++) {
      unsigned other = (i & ~31u) + lane;
      if (!(fiber.mask >> lane & 1)) continue;
      if (other >= count || all[other].state != IN_OPERATION || all[other].mask != fiber.mask || all[other].operation != fiber.operation) {
        current = &fiber;
        say("it waits for lane %u in an operation of its warp (mask %08x); that lane %s", lane, fiber.mask,
            other >= count ? "does not exist" : all[other].state == IN_OPERATION ? "is in another one, or with another mask"
                                                                                 : STATES[all[other].state]);
        current = nullptr;
        return;
      }
    }
  }
  for (unsigned i = 0; i < count; i++) {
    if (all[i].state != AT_BARRIER) continue;
    current = &all[i];
    say("it waits at a barrier that %u threads of its block do not reach, for they have ended", done);
    current = nullptr;
    return;
  }
}

void run_block() {
  epoch++;
  at_barrier = done = 0;
  memset(shared, 0xff, shared_nbytes);
  watch_block();
  for (unsigned i = 0; i < count; i++) {
    Fiber& fiber = all[i];
    fiber.number = i;
    fiber.index = {i % threads.x, i / threads.x % threads.y, i / threads.x / threads.y};
    fiber.state = READY;
    fiber.copies = fiber.group = 0;
    order[i] = seed == 1 ? count - 1 - i : i;
    fibers::forget(stacks + i * STACK_NBYTES + PAGE, STACK_NBYTES - PAGE);
    fibers::prepare(fiber.context, stacks + i * STACK_NBYTES + PAGE, STACK_NBYTES - PAGE, run_thread);
  }
  while (!failed && done < count) {
    bool ran = run_round();
    if (!failed && at_barrier == count) {
      for (unsigned i = 0; i < count; i++) all[i].state = READY;
      at_barrier = 0;
      epoch++;
    } else if (!failed && !ran) {
      explain_deadlock();
    }
  }
}

void run_blocks() {
  uint64_t total = uint64_t(blocks.x) * blocks.y * blocks.z;
  // Blocks run forwards, backwards, or from a random one on in random strides that reach all of them.
  uint64_t first = seed >= 2 ? random_number() % total : 0, stride = 1;
  if (seed >= 2) {
    uint64_t a = stride = random_number() % total | 1, b = total;
    while (b) {
      uint64_t rest = a % b;
      a = b;
      b = rest;
    }
    if (a != 1) stride = 1;
  }
  for (uint64_t i = 0; i < total && !failed; i++) {
    uint64_t n = seed == 1 ? total - 1 - i : (first + i * stride) % total;
    block = {unsigned(n % blocks.x), unsigned(n / blocks.x % blocks.y), unsigned(n / blocks.x / blocks.y)};
    run_block();
  }
}

// -- memory astray ------------------------------------------------------------------------------------------------------

void on_signal(int signal, siginfo_t* info, void*) {
  if (!running || !pthread_equal(pthread_self(), runner)) {  // it is none of ours: let it happen again, to whoever waits for it
    struct sigaction plain = {};
    plain.sa_handler = SIG_DFL;
    sigaction(signal, &plain, nullptr);
    return;
  }
  if (signal == SIGFPE) {
    say("it divides an integer by zero");
  } else if (signal == SIGILL || signal == SIGTRAP) {
    say("it does what C++ leaves undefined: an integer overflows, is shifted by its width or more, or divided by zero, an address is no "
        "multiple of what its type is aligned to, or an index is outside of an array");
  } else {
    auto* address = static_cast<unsigned char*>(info->si_addr);
    auto* stack = stacks + (current ? current->number : 0) * STACK_NBYTES;
    if (address >= stack && address < stack + PAGE) say("its stack of %zu bytes is full", STACK_NBYTES - PAGE);
    else if (address >= shared && address < shared + shared_nbytes + PAGE) say("it accesses byte %td of %zu of shared memory", address - shared, shared_nbytes);
    else say("it accesses address %p, where there is no memory, or none to be written", info->si_addr);
  }
  siglongjmp(way_out, 1);
}

constexpr int SIGNALS[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
constexpr int SIGNAL_COUNT = sizeof SIGNALS / sizeof *SIGNALS;

// Signals of the threads that run kernels come here, on a stack of their own, until it is destroyed.
struct Signals {
  struct sigaction before[SIGNAL_COUNT];
  stack_t stack_before;
  unsigned char stack[32768];

  Signals() {
    stack_t own = {};
    own.ss_sp = stack;
    own.ss_size = sizeof stack;
    sigaltstack(&own, &stack_before);
    struct sigaction action = {};
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (int i = 0; i < SIGNAL_COUNT; i++) sigaction(SIGNALS[i], &action, &before[i]);
  }
  ~Signals() {
    for (int i = 0; i < SIGNAL_COUNT; i++) sigaction(SIGNALS[i], &before[i], nullptr);
    sigaltstack(&stack_before, nullptr);
  }
};

// Shared memory ends where a page that nobody may touch begins, but for what aligns its start to 16 bytes.
struct Shared {
  unsigned char* pages;
  size_t nbytes;

  explicit Shared(size_t wanted) {
#if defined(__SANITIZE_ADDRESS__)
    pages = nullptr;
    nbytes = wanted;
    shared = static_cast<unsigned char*>(malloc(wanted));
#else
    nbytes = (wanted + PAGE - 1) / PAGE * PAGE + 2 * PAGE;
    pages = static_cast<unsigned char*>(mmap(nullptr, nbytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(pages, PAGE, PROT_NONE);
    mprotect(pages + nbytes - PAGE, PAGE, PROT_NONE);
    shared = pages + nbytes - PAGE - (wanted + 15) / 16 * 16;
#endif
    shared_nbytes = wanted;
  }
  ~Shared() {
    if (pages) munmap(pages, nbytes);
    else free(shared);
  }
};

// The stacks of a block's threads, each behind a page that nobody may touch. They are given back after a launch: a process may have so
// many parts of memory, and each library has a machine of its own.
struct Stacks {
  const size_t nbytes = count * STACK_NBYTES;

  Stacks() {
    stacks = static_cast<unsigned char*>(
        mmap(nullptr, nbytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    for (unsigned i = 0; i < count; i++) mprotect(stacks + i * STACK_NBYTES, PAGE, PROT_NONE);
  }
  ~Stacks() {
    fibers::forget(stacks, nbytes);  // frames of fibers that never returned are marked, and the memory becomes somebody else's
    munmap(stacks, nbytes);
    stacks = nullptr;
  }
};

pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

}  // namespace

void fault(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  say_list(format, arguments);
  va_end(arguments);
  fibers::end(self()->context, scheduler);
  abort();
}

void barrier() {
  at_barrier++;
  wait_as(AT_BARRIER);
}

void together(unsigned mask, void* argument, Operation operation) {
  Fiber* me = self();
  unsigned warp = me->number / 32, lane = me->number & 31, others = existing(warp);
  if (!mask) mask = others;
  if (!(mask >> lane & 1)) fault("it takes part in an operation of its warp whose mask %08x leaves it out", mask);
  if (mask & ~others) fault("the mask %08x of an operation names lanes that its block does not have (it has %u threads)", mask, count);
  me->mask = mask;
  me->argument = argument;
  me->operation = operation;
  me->state = IN_OPERATION;
  void* arguments[32] = {};
  for (unsigned l = 0; l < 32; l++) {
    if (!(mask >> l & 1)) continue;
    Fiber& other = all[32 * warp + l];
    if (other.state != IN_OPERATION || other.mask != mask || other.operation != operation) return wait_as(IN_OPERATION);
    arguments[l] = other.argument;
  }
  operation(mask, arguments);
  for (unsigned l = 0; l < 32; l++) {
    if (mask >> l & 1) all[32 * warp + l].state = READY;
  }
}

void synchronise_warp(unsigned mask) {
  together(mask, nullptr, [](unsigned met, void* const*) {
    unsigned warp = current->number / 32;
    if (met == existing(warp)) warp_epochs[warp]++;
  });
}

void begin_copy(void* target, const void* source, unsigned nbytes) {
  Fiber* me = self();
  if (me->copies == MOST_COPIES) fault("it has begun more than %u asynchronous copies without waiting for one", MOST_COPIES);
  watch_target(target, nbytes);
  memset(target, 0xff, nbytes);
  me->pending[me->copies++] = {target, source, nbytes, me->group};
}

void commit_copies() { self()->group++; }

namespace {
void finish_copies(Fiber* me, unsigned up_to_group) {
  unsigned kept = 0;
  for (unsigned i = 0; i < me->copies; i++) {
    Copy& copy = me->pending[i];
    if (copy.group < up_to_group) {
      watch_copy(copy);
      memcpy(copy.target, copy.source, copy.nbytes);
    } else {
      me->pending[kept++] = copy;
    }
  }
  me->copies = kept;
}
}  // namespace

void await_copies(unsigned still_pending) {
  Fiber* me = self();
  finish_copies(me, me->group > still_pending ? me->group - still_pending : 0);
}

}  // namespace machine

// Runs a kernel: 0, or 1 with a sentence in `text`. ranges: (address, bytes, whether it may be written) of all memory that it may touch.
extern "C" __attribute__((visibility("default"))) int machine_launch(void (*entry)(void* const*, const int*), const unsigned* grid,
                                                                     const unsigned* block, size_t shared_nbytes, void* const* table,
                                                                     const int* slots, size_t slot_count, uint64_t seed, const uint64_t* ranges,
                                                                     size_t range_count, char* text, size_t text_nbytes) {
  using namespace machine;
  pthread_mutex_lock(&one_at_a_time);
  machine::entry = entry;
  machine::table = table;
  memcpy(machine::slots, slots, (slot_count < MOST_SLOTS ? slot_count : MOST_SLOTS) * sizeof(int));
  machine::seed = seed;
  random_state = 0x9e3779b97f4a7c15ull * (seed + 1);
  blocks = {grid[0], grid[1], grid[2]};
  threads = {block[0], block[1], block[2]};
  count = block[0] * block[1] * block[2];
  report = text;
  report_nbytes = text_nbytes;
  failed = false;
  current = nullptr;
  if (count < 1 || count > MOST_THREADS) {
    say("a block has 1 to %u threads, not %u", MOST_THREADS, count);
  } else if (slot_count > MOST_SLOTS) {
    say("a kernel has at most %zu parameters, not %zu", MOST_SLOTS, slot_count);
  } else {
    Stacks of_threads;
    Shared memory(shared_nbytes);
#ifdef MACHINE_WATCHES
    Watched watched(ranges, range_count);
#endif
#if defined(__SANITIZE_ADDRESS__)
    run_blocks();
#else
    Signals signals;
    runner = pthread_self();
    running = true;
    if (!sigsetjmp(way_out, 1)) run_blocks();
    running = false;
#endif
  }
  current = nullptr;
  pthread_mutex_unlock(&one_at_a_time);
  return failed;
}

#ifdef MACHINE_WATCHES
// What compilers call at each access under -fsanitize=thread: here it goes to the watch, and no library of theirs takes part.
extern "C" {
#define MACHINE_ACCESSES(n)                                                                  \
  void __tsan_read##n(void* p) { machine::accessed(p, n, false, true); }                     \
  void __tsan_write##n(void* p) { machine::accessed(p, n, true, true); }                     \
  void __tsan_unaligned_read##n(void* p) { machine::accessed(p, n, false, false); }          \
  void __tsan_unaligned_write##n(void* p) { machine::accessed(p, n, true, false); }
MACHINE_ACCESSES(1)
MACHINE_ACCESSES(2)
MACHINE_ACCESSES(4)
MACHINE_ACCESSES(8)
MACHINE_ACCESSES(16)
void __tsan_read_range(void* p, size_t n) { machine::accessed(p, n, false, false); }
void __tsan_write_range(void* p, size_t n) { machine::accessed(p, n, true, false); }
void __tsan_vptr_update(void**, void*) {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_init() {}
void* __tsan_memcpy(void* to, const void* from, size_t n) {
  machine::accessed(from, n, false, false);
  machine::accessed(to, n, true, false);
  return memcpy(to, from, n);
}
void* __tsan_memset(void* to, int byte, size_t n) {
  machine::accessed(to, n, true, false);
  return memset(to, byte, n);
}
}
#endif
