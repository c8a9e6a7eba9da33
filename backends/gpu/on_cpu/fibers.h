// Fibers: stacks that one thread of the CPU switches between, by a few instructions on x86-64 and arm64, by ucontext elsewhere,
// or where FIBERS_PORTABLE is defined.
//
// Compiled with AddressSanitizer, it is told of every switch, so that it knows which stack is in use.
#pragma once
#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if !defined(FIBERS_PORTABLE) && (defined(__x86_64__) || defined(__aarch64__))
#define FIBERS_BY_HAND 1
#else
#include <ucontext.h>
#endif

namespace fibers {

// Where a fiber, or the thread that began, goes on when it is switched to.
struct Context {
#if defined(FIBERS_BY_HAND)
  void* stack_pointer;
#else
  ucontext_t registers;
#endif
  const void* stack;
  size_t nbytes;
};

#if defined(FIBERS_BY_HAND)

extern "C" void fibers_exchange(void** kept, void* next) __asm__("fibers_exchange");

#if defined(__x86_64__)
// What a called function has to keep: six registers; the address to go on at is on the stack already.
constexpr size_t ENTRY = 6, FRAME = 8;
__asm__(R"(
.text
.globl fibers_exchange
fibers_exchange:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");
#else
// x19 to x30, of which the last is the address to go on at, and d8 to d15.
constexpr size_t ENTRY = 11, FRAME = 20;
__asm__(R"(
.text
.globl fibers_exchange
fibers_exchange:
  sub sp, sp, #160
  stp x19, x20, [sp]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
)");
#endif

inline void prepare(Context& context, void* stack, size_t nbytes, void (*entry)()) {
  void** top = reinterpret_cast<void**>((reinterpret_cast<size_t>(stack) + nbytes) & ~size_t(63));
  top -= FRAME;
  for (size_t i = 0; i < FRAME; i++) top[i] = nullptr;
  top[ENTRY] = reinterpret_cast<void*>(entry);
  context.stack_pointer = top;
  context.stack = stack;
  context.nbytes = nbytes;
}

inline void exchange(Context& from, Context& to) { fibers_exchange(&from.stack_pointer, to.stack_pointer); }

#else

inline void prepare(Context& context, void* stack, size_t nbytes, void (*entry)()) {
  getcontext(&context.registers);
  context.registers.uc_stack.ss_sp = stack;
  context.registers.uc_stack.ss_size = nbytes;
  context.registers.uc_link = nullptr;
  makecontext(&context.registers, entry, 0);
  context.stack = stack;
  context.nbytes = nbytes;
}

inline void exchange(Context& from, Context& to) { swapcontext(&from.registers, &to.registers); }

#endif

#if defined(__SANITIZE_ADDRESS__)
// The stack that the thread had when the first fiber began: it is known from there on.
inline Context*& came_from() {
  static Context* from;
  return from;
}
inline void arrived(void* fake) {
  const void* stack;
  size_t nbytes;
  __sanitizer_finish_switch_fiber(fake, &stack, &nbytes);
  if (came_from() && !came_from()->stack) {
    came_from()->stack = stack;
    came_from()->nbytes = nbytes;
  }
}
// What an earlier fiber left on a stack counts no more.
inline void forget(void* stack, size_t nbytes) { __asan_unpoison_memory_region(stack, nbytes); }
inline void switch_to(Context& from, Context& to) {
  void* fake;
  came_from() = &from;
  __sanitizer_start_switch_fiber(&fake, to.stack, to.nbytes);
  exchange(from, to);
  arrived(fake);
}
inline void begin() { arrived(nullptr); }
inline void end(Context& from, Context& to) {
  __sanitizer_start_switch_fiber(nullptr, to.stack, to.nbytes);
  exchange(from, to);
}
#else
inline void forget(void*, size_t) {}
inline void switch_to(Context& from, Context& to) { exchange(from, to); }
inline void begin() {}
inline void end(Context& from, Context& to) { exchange(from, to); }
#endif

}  // namespace fibers
