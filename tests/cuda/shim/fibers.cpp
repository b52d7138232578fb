#include "fibers.h"

#include <c10/cuda/CUDAStream.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

// The linker marks the section's ends; it has none where no kernel uses shared memory.
extern char __start_cuda_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_cuda_shared[] __attribute__((weak, visibility("hidden")));

namespace cuda_shim {
namespace {

constexpr std::size_t stack_size = std::size_t{1} << 17;

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  Status status = Status::ended;
  // Two, so that a lane that has gone on to its next shuffle does not overwrite what others still have to take.
  std::uint64_t left[2] = {};
  unsigned shuffles = 0;
};

[[noreturn]] void fail(const char* message) {
  std::fprintf(stderr, "cuda shim: %s\n", message);
  std::abort();
}

Launcher the_launcher = nullptr;
unsigned long long launches = 0;

class Block;
Block& the_block();

class Block {
 public:
  void run(unsigned block, unsigned threads, const std::function<void()>& kernel) {
    if (threads % warp_size != 0) fail("a block must be whole warps");
    kernel_ = &kernel;
    index_ = {block};
    std::memset(__start_cuda_shared, 0xff, static_cast<std::size_t>(__stop_cuda_shared - __start_cuda_shared));
    resize(threads);
    for (Fiber& fiber : fibers_) fiber.status = Status::running;
    while (true) {
      for (const unsigned warp : shuffled(threads / warp_size)) run_warp(warp * warp_size);
      const auto waiting = std::count_if(
          fibers_.begin(), fibers_.end(), [](const Fiber& fiber) { return fiber.status == Status::at_barrier; });
      if (waiting == 0) return;
      if (waiting != static_cast<std::ptrdiff_t>(threads)) fail("deadlock: some threads never reach a barrier");
      for (Fiber& fiber : fibers_) fiber.status = Status::running;
    }
  }

  Fiber& current() { return fibers_[thread_]; }
  Index thread_index() const { return {thread_}; }
  Index block_index() const { return index_; }

  const Fiber& lane_of_warp(unsigned lane) const { return fibers_[thread_ / warp_size * warp_size + lane]; }

  void suspend() {
    in_fiber_ = false;
    switch_to(current().context, scheduler_, scheduler_stack_, scheduler_stack_size_);
  }

  [[noreturn]] void run_fiber() {
    arrive(nullptr);
    while (true) {
      (*kernel_)();
      current().status = Status::ended;
      suspend();
    }
  }

 private:
  void resize(unsigned threads) {
    while (fibers_.size() < threads) {
      Fiber& fiber = fibers_.emplace_back();
      fiber.stack.reset(new char[stack_size]);
    }
    if (threads != fibers_.size()) fail("all kernels must have blocks of one size");
    if (prepared_) return;
    prepared_ = true;  // no fiber moves in memory from here on
    for (Fiber& fiber : fibers_) {
      getcontext(&fiber.context);
      fiber.context.uc_stack.ss_sp = fiber.stack.get();
      fiber.context.uc_stack.ss_size = stack_size;
      makecontext(&fiber.context, [] { the_block().run_fiber(); }, 0);
    }
  }

  // Until every lane waits at a barrier or has ended.
  void run_warp(unsigned first) {
    while (true) {
      for (const unsigned lane : shuffled(warp_size)) {
        thread_ = first + lane;
        if (current().status != Status::running) continue;
        in_fiber_ = true;
        switch_to(scheduler_, current().context, current().stack.get(), stack_size);
      }
      unsigned waiting = 0;
      for (unsigned lane = 0; lane < warp_size; ++lane) {
        waiting += fibers_[first + lane].status == Status::at_shuffle;
      }
      if (waiting == 0) return;
      if (waiting != warp_size) fail("deadlock: some lanes never reach a shuffle");
      for (unsigned lane = 0; lane < warp_size; ++lane) fibers_[first + lane].status = Status::running;
    }
  }

  std::vector<unsigned> shuffled(unsigned count) {
    std::vector<unsigned> order(count);
    std::iota(order.begin(), order.end(), 0u);
    std::shuffle(order.begin(), order.end(), random_);
    return order;
  }

  // AddressSanitizer wants to know whose stack is in use; what it says on arrival is the stack that was left.
  void switch_to(ucontext_t& from, ucontext_t& to, const void* stack, std::size_t size) {
#if defined(__SANITIZE_ADDRESS__)
    void* fake_stack = nullptr;
    __sanitizer_start_switch_fiber(&fake_stack, stack, size);
    swapcontext(&from, &to);
    arrive(fake_stack);
#else
    (void)stack, (void)size;
    swapcontext(&from, &to);
#endif
  }

  void arrive([[maybe_unused]] void* fake_stack) {
#if defined(__SANITIZE_ADDRESS__)
    const void* stack = nullptr;
    std::size_t size = 0;
    __sanitizer_finish_switch_fiber(fake_stack, &stack, &size);
    if (in_fiber_) {
      scheduler_stack_ = stack;
      scheduler_stack_size_ = size;
    }
#endif
  }

  std::vector<Fiber> fibers_;
  ucontext_t scheduler_;
  const void* scheduler_stack_ = nullptr;
  std::size_t scheduler_stack_size_ = 0;
  bool in_fiber_ = false;
  bool prepared_ = false;
  unsigned thread_ = 0;
  Index index_ = {0};
  const std::function<void()>* kernel_ = nullptr;
  std::minstd_rand random_{static_cast<unsigned>(std::atoi(std::getenv("CUDA_SHIM_SEED") ?: "1"))};
};

Block& the_block() {
  static Block block;
  return block;
}

}  // namespace

Index thread_index() {
  return the_block().thread_index();
}

Index block_index() {
  return the_block().block_index();
}

unsigned lane() {
  return thread_index().x % warp_size;
}

void meet(Status where) {
  the_block().current().status = where;
  the_block().suspend();
}

std::uint64_t exchange_bits(unsigned mask, std::uint64_t value, unsigned source) {
  if (mask != ~0u) fail("a shuffle without all lanes");
  Fiber& fiber = the_block().current();
  const unsigned turn = fiber.shuffles++ % 2;
  fiber.left[turn] = value;
  meet(Status::at_shuffle);
  return source < warp_size ? the_block().lane_of_warp(source).left[turn] : value;
}

int run(const Launch& launch, const std::function<void()>& kernel) {
  static std::mutex one_grid;
  const std::lock_guard<std::mutex> lock(one_grid);
  ++launches;
  if (the_launcher != nullptr) return the_launcher(launch);
  the_grid = {launch.blocks};
  for (unsigned block = 0; block < launch.blocks; ++block) the_block().run(block, launch.threads, kernel);
  return 0;
}

}  // namespace cuda_shim

unsigned long long cuda_shim_launches() {
  return cuda_shim::launches;
}

void cuda_shim_use_stream(c10::StreamId number, bool capturing) {
  c10::cuda::current_stream = {number, capturing};
}

void cuda_shim_set_launcher(cuda_shim::Launcher launcher) {
  cuda_shim::the_launcher = launcher;
}
