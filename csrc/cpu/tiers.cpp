#include "tiers.h"

#include <atomic>
#include <stdexcept>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace dfad::cpu {
namespace {

struct Tier {
  const char* name;
  const Kernels* kernels;
};

#if defined(__x86_64__)

struct Registers {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

Registers cpuid(unsigned leaf) {
  Registers r;
  __get_cpuid_count(leaf, 0, &r.a, &r.b, &r.c, &r.d);
  return r;
}

bool all(unsigned value, unsigned bits) {
  return (value & bits) == bits;
}

// Which register files the operating system saves; a CPU may have AVX-512 that its system does not switch.
unsigned saved_state() {
  unsigned low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

void add_x86_tiers(std::vector<Tier>& tiers) {
  constexpr unsigned fma = 1u << 12, osxsave = 1u << 27, f16c = 1u << 29;
  constexpr unsigned avx2_bit = 1u << 5;
  constexpr unsigned avx512_f_dq_bw_vl = (1u << 16) | (1u << 17) | (1u << 30) | (1u << 31);
  constexpr unsigned ymm_state = 0x6, zmm_state = 0xe6;
  if (!all(cpuid(1).c, fma | osxsave | f16c)) return;
  const unsigned state = saved_state(), features = cpuid(7).b;
  if (!all(state, ymm_state) || !all(features, avx2_bit)) return;
  tiers.push_back({"avx2", &avx2::kernels});
  if (!all(state, zmm_state) || !all(features, avx512_f_dq_bw_vl)) return;
  tiers.push_back({"avx512", &avx512::kernels});
}

#endif

const std::vector<Tier>& supported() {
  static const std::vector<Tier> tiers = [] {
    std::vector<Tier> found = {{"base", &base::kernels}};
#if defined(__x86_64__)
    add_x86_tiers(found);
#endif
    return found;
  }();
  return tiers;
}

std::atomic<const Tier*>& active() {
  static std::atomic<const Tier*> tier{&supported().back()};
  return tier;
}

}  // namespace

const Kernels& active_kernels() {
  return *active().load(std::memory_order_relaxed)->kernels;
}

std::string tier() {
  return active().load()->name;
}

std::vector<std::string> supported_tiers() {
  std::vector<std::string> names;
  for (const Tier& tier : supported()) names.emplace_back(tier.name);
  return names;
}

void set_tier(const std::string& name) {
  std::string names;
  for (const Tier& tier : supported()) {
    if (name == tier.name) {
      active().store(&tier);
      return;
    }
    names += (names.empty() ? "" : ", ") + std::string(tier.name);
  }
  const bool known = name == "avx2" || name == "avx512";
  throw std::invalid_argument(
      known ? "this CPU does not support the tier '" + name + "'; it supports " + names
            : "unknown tier '" + name + "'; this CPU supports " + names);
}

}  // namespace dfad::cpu
