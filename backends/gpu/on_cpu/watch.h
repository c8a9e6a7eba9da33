// The watch over memory: machine.cpp includes it where every access of a kernel is announced.
//
// An access must be inside of what the launch may touch. For each word of shared memory, and of what the launch may touch, it is known who
// wrote and read it last; two accesses by different threads, one of them a write, must have a barrier between them (or, in one warp, a
// synchronisation of the whole warp), and none orders what different blocks do. Shared memory must be written before it is read.

// Who accessed bytes of a word (a mask of four), and when: block 0 is nobody.
struct Access {
  uint32_t block, epoch, warp_epoch;
  uint16_t thread, bytes;
};

// Of the threads that read a word the last two are known: one of them is another than whoever writes it.
struct Word {
  Access written, read, read_before;
  uint32_t filled_by;     // the block whose threads wrote these bytes of shared memory
  uint32_t filled_bytes;
};

struct Range {
  size_t begin, end;
  bool writable;
};

// Words from the first to the last byte of ranges that touch each other.
struct Span {
  size_t begin, end;
  Word* words;
};

Range* ranges;
Span* spans;
Word* shared_words;
size_t range_count, span_count, last_range;
uint32_t block_number;
// Accesses of a launch so far, and how many mean that it goes on without an end.
uint64_t accesses;
constexpr uint64_t MOST_ACCESSES = 1ull << 31;

// What a launch may touch, while it runs.
struct Watched {
  Watched(const uint64_t* given, size_t count) {
    ranges = new Range[count + 1];
    spans = new Span[count + 1];
    range_count = count;
    span_count = block_number = last_range = 0;
    accesses = 0;
    for (size_t i = 0; i < count; i++) {
      Range made{size_t(given[3 * i]), size_t(given[3 * i] + given[3 * i + 1]), given[3 * i + 2] != 0};
      size_t at = i;
      for (; at > 0 && ranges[at - 1].begin > made.begin; at--) ranges[at] = ranges[at - 1];
      ranges[at] = made;
    }
    for (size_t i = 0; i < count; i++) {
      size_t begin = ranges[i].begin & ~size_t(3), end = (ranges[i].end + 3) & ~size_t(3);
      if (span_count && begin <= spans[span_count - 1].end) {
        if (end > spans[span_count - 1].end) spans[span_count - 1].end = end;
      } else {
        spans[span_count++] = {begin, end, nullptr};
      }
    }
    for (size_t i = 0; i < span_count; i++) spans[i].words = static_cast<Word*>(calloc((spans[i].end - spans[i].begin) / 4 + 1, sizeof(Word)));
    shared_words = static_cast<Word*>(calloc(shared_nbytes / 4 + 2, sizeof(Word)));
  }
  ~Watched() {
    for (size_t i = 0; i < span_count; i++) free(spans[i].words);
    free(shared_words);
    delete[] ranges;
    delete[] spans;
  }
};

void watch_block() { block_number++; }

bool ordered(const Access& before, const Access& now) {
  if (before.block != now.block) return false;
  if (before.thread == now.thread || before.epoch != now.epoch) return true;
  return before.thread / 32 == now.thread / 32 && before.warp_epoch != now.warp_epoch;
}

bool meets(const Access& before, const Access& now, bool in_shared) {
  if (!before.block || !(before.bytes & now.bytes) || (in_shared && before.block != now.block)) return false;
  return !ordered(before, now);
}

void keep(Access& last, const Access& now) {
  bool same = last.block == now.block && last.thread == now.thread && last.epoch == now.epoch && last.warp_epoch == now.warp_epoch;
  uint16_t bytes = same ? last.bytes | now.bytes : now.bytes;
  last = now;
  last.bytes = bytes;
}

void look_at(Word& word, const Access& now, bool writes, bool in_shared, size_t place) {
  const char* where = in_shared ? "shared memory" : "memory";
  if (in_shared && !writes && (word.filled_by != now.block || (now.bytes & ~word.filled_bytes)))
    fault("it reads byte %zu of shared memory, which nobody of its block wrote", place);
  const Access* other = meets(word.written, now, in_shared) ? &word.written : nullptr;
  if (writes && !other) other = meets(word.read, now, in_shared) ? &word.read : meets(word.read_before, now, in_shared) ? &word.read_before : nullptr;
  if (other) {
    const char* both = writes ? (other == &word.written ? "both write" : "it writes what the other reads") : "it reads what the other writes";
    if (other->block != now.block) fault("it and thread %u of another block: %s %s at 0x%zx, in one launch", other->thread, both, where, place);
    fault("it and thread %u of its block: %s %s at %s%zx, with no barrier between them", other->thread, both, where, in_shared ? "byte 0x" : "0x", place);
  }
  if (writes) {
    keep(word.written, now);
    if (word.filled_by != now.block) word.filled_bytes = 0;
    word.filled_by = now.block;
    word.filled_bytes |= now.bytes;
  } else {
    if (word.read.thread != now.thread || word.read.block != now.block) word.read_before = word.read;
    keep(word.read, now);
  }
}

void look(Word* words, size_t begin, size_t at, size_t nbytes, bool writes, bool in_shared) {
  unsigned number = current->number;
  Access now{block_number, epoch, warp_epochs[number / 32], uint16_t(number), 0};
  for (size_t end = at + nbytes; at < end;) {
    size_t next = (at | 3) + 1 < end ? (at | 3) + 1 : end;
    now.bytes = uint16_t(((1u << (next - at)) - 1) << (at & 3));
    look_at(words[(at - begin) / 4], now, writes, in_shared, in_shared ? at - begin : at);
    at = next;
  }
}

// Whether it is memory of this library: constants of the kernels, and what the machine says of threads.
bool is_own(size_t at) {
#if defined(__ELF__)
  return at >= size_t(__ehdr_start) && at < size_t(_end);
#else
  Dl_info found, mine;
  return dladdr(reinterpret_cast<void*>(at), &found) && dladdr(reinterpret_cast<void*>(&stacks), &mine) && found.dli_fbase == mine.dli_fbase;
#endif
}

void fault_astray(size_t at, size_t nbytes, bool writes) {
  const Range* nearest = nullptr;
  size_t least = ~size_t(0);
  for (size_t i = 0; i < range_count; i++) {
    const Range& r = ranges[i];
    size_t distance = at + nbytes > r.end ? at + nbytes - r.end : at < r.begin ? r.begin - at : 0;
    if (distance < least) least = distance, nearest = &r;
  }
  const char* does = writes ? "writes" : "reads";
  if (nearest && least == 0) fault("it writes %zu bytes at 0x%zx, which the launch may only read", nbytes, at);
  if (nearest && at >= nearest->begin)
    fault("it %s %zu bytes at 0x%zx, %zu bytes beyond the end of an operand of %zu bytes", does, nbytes, at, least, nearest->end - nearest->begin);
  if (nearest) fault("it %s %zu bytes at 0x%zx, %zu bytes before an operand of %zu bytes", does, nbytes, at, least, nearest->end - nearest->begin);
  fault("it %s %zu bytes at 0x%zx, and the launch may touch no memory", does, nbytes, at);
}

// aligned: whether the device needs the address to be a multiple of the access.
void accessed(const void* address, size_t nbytes, bool writes, bool aligned) {
  size_t at = size_t(address), local = size_t(shared);
  if (!running || !current || at - size_t(stacks) < count * STACK_NBYTES) return;
  if (++accesses > MOST_ACCESSES) fault("the launch does not come to an end");
  const char* does = writes ? "writes" : "reads";
  bool in_shared = at - local < shared_nbytes;
  if (!in_shared && is_own(at)) return;
  if (aligned && at % nbytes) fault("it %s %zu bytes at 0x%zx, which is no multiple of them", does, nbytes, at);
  if (in_shared && at + nbytes <= local + shared_nbytes) return look(shared_words, local, at, nbytes, writes, true);
  for (size_t i = 0; i < range_count && !in_shared; i++) {
    const Range& range = ranges[(i + last_range) % range_count];  // the next access is often where this one is
    if (at < range.begin || at + nbytes > range.end || (writes && !range.writable)) continue;
    last_range = (i + last_range) % range_count;
    for (size_t s = 0; s < span_count; s++) {
      if (at >= spans[s].begin && at < spans[s].end) return look(spans[s].words, spans[s].begin, at, nbytes, writes, false);
    }
  }
  if (in_shared || at - local < shared_nbytes + PAGE || local - at < PAGE)
    fault("it %s %zu bytes at byte %td of shared memory, which has %zu", does, nbytes, ptrdiff_t(at - local), shared_nbytes);
  fault_astray(at, nbytes, writes);
}

// The target of a copy that begins: nobody else may use it by now, and nothing is there until the copy is awaited.
void watch_target(const void* target, size_t nbytes) {
  accessed(target, nbytes, true, true);
  for (size_t at = size_t(target) - size_t(shared), end = at + nbytes; at < end && end <= shared_nbytes; at++) {
    shared_words[at / 4].filled_bytes &= ~(1u << (at & 3));
  }
}

void watch_copy(const Copy& copy) {
  accessed(copy.source, copy.nbytes, false, true);
  accessed(copy.target, copy.nbytes, true, true);
}
