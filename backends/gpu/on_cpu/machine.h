// The machine: a GPU of fibers, on which kernels run on a CPU. This is what the text of a kernel sees of it; machine.cpp is what it does.
//
// The threads of a block are fibers of one thread of the CPU, and run one after another up to where they wait: at a barrier of the block,
// or in an operation of their warp. Blocks run one after another. Whatever a real device leaves undefined is a fault here, which ends the
// launch with a sentence: barriers that part of a block reaches, warp operations whose lanes do not meet, deadlocks, accesses astray.
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define NAGRAPH_ON_CPU 1
// The dynamic shared memory of a block, as bytes of this name.
#define MACHINE_SHARED(name) unsigned char* const name = machine::shared

namespace machine {

struct Index {
  unsigned x, y, z;
};

// A thread as kernels know it: its index in the block, and its number there.
struct Thread {
  Index index;
  unsigned number;
};

extern Thread* current;                // the thread that runs
extern Index block, blocks, threads;   // the block that runs, the extents of the grid and of a block
extern unsigned char* shared;          // the dynamic shared memory of the block that runs, full of 0xff when it begins

// All threads of the block wait here for each other.
void barrier();

// An operation of a warp: `arguments[lane]` is what each lane in the mask brought, and takes its results.
using Operation = void (*)(unsigned mask, void* const* arguments);

// The lanes of the mask wait here for each other, each with an argument; then the operation is done once for all of them.
// A mask of 0 stands for all lanes of the warp that there are.
void together(unsigned mask, void* argument, Operation operation);

// The lanes of the mask wait for each other, and see what the others wrote.
void synchronise_warp(unsigned mask);

// Copies that are done when they are waited for: until then their target is full of 0xff.
void begin_copy(void* target, const void* source, unsigned nbytes);
void commit_copies();
void await_copies(unsigned still_pending);

// Ends the launch: the sentence says what is wrong.
[[noreturn]] void fault(const char* format, ...) __attribute__((format(printf, 1, 2)));

template <class T, class S>
inline T bits_as(S x) {
  static_assert(sizeof(T) == sizeof(S), "bits of another size");
  T y;
  memcpy(&y, &x, sizeof(T));
  return y;
}

// One lane's part of a shuffle: what it brings, which lane it reads, what it gets.
template <class T>
struct Shuffled {
  T value;
  unsigned source;
  T result;

  static void exchange(unsigned mask, void* const* arguments) {
    for (unsigned lane = 0; lane < 32; lane++) {
      if (!(mask >> lane & 1)) continue;
      auto* mine = static_cast<Shuffled*>(arguments[lane]);
      if (!(mask >> mine->source & 1)) fault("lane %u shuffles a value from lane %u, which takes no part (mask %08x)", lane, mine->source, mask);
      mine->result = static_cast<Shuffled*>(arguments[mine->source])->value;
    }
  }
};

// The value that lane `source` of the warp brings.
template <class T>
inline T shuffle(unsigned mask, T value, unsigned source) {
  Shuffled<T> mine{value, source & 31, value};
  together(mask, &mine, &Shuffled<T>::exchange);
  return mine.result;
}

// The bits of the lanes whose predicate is true.
struct Vote {
  bool predicate;
  unsigned result;

  static void count(unsigned mask, void* const* arguments) {
    unsigned found = 0;
    for (unsigned lane = 0; lane < 32; lane++) {
      if (mask >> lane & 1) found |= static_cast<unsigned>(static_cast<Vote*>(arguments[lane])->predicate) << lane;
    }
    for (unsigned lane = 0; lane < 32; lane++) {
      if (mask >> lane & 1) static_cast<Vote*>(arguments[lane])->result = found;
    }
  }
};

inline unsigned vote(unsigned mask, bool predicate) {
  Vote mine{predicate, 0};
  together(mask, &mine, &Vote::count);
  return mine.result;
}

// How a kernel is called: with the table, and as many of the slots as it has parameters.
template <class... Slots>
struct Caller {
  template <size_t N, size_t... I>
  struct Count : Count<N - 1, N - 1, I...> {};
  template <size_t... I>
  struct Count<0, I...> {
    static void call(void (*kernel)(void* const*, Slots...), void* const* table, const int* slots) { kernel(table, slots[I]...); }
  };
};

template <class... Slots>
inline void call(void (*kernel)(void* const*, Slots...), void* const* table, const int* slots) {
  Caller<Slots...>::template Count<sizeof...(Slots)>::call(kernel, table, slots);
}

}  // namespace machine

// Behind the text of each kernel: its entry, which the machine calls for each thread.
#define MACHINE_ENTRY(name)                                                                       \
  extern "C" __attribute__((visibility("default"))) void name##_entry(void* const* table, const int* slots) { machine::call(&name, table, slots); }
