#include "sectors.h"

#include <bit>
#include <map>
#include <tuple>

namespace ptx {
namespace {

struct Request {
  bool is_store = false;
  bool scattered = false;  // over more than one element
  std::uint64_t first = 0;
  std::map<std::uint64_t, std::uint32_t> used;  // of each sector, one bit for each byte
};

struct Total {
  std::uint64_t requests = 0;
  std::uint64_t sectors = 0;
  std::uint64_t bytes = 0;
};

bool counting = false;
std::map<std::tuple<unsigned, std::size_t, std::uint32_t>, Request> block_requests;
std::map<std::pair<std::string, std::string>, Total> totals;

std::string kind_of(const Request& request) {
  return std::string(request.scattered ? "" : "single ") + (request.is_store ? "store" : "load");
}

}  // namespace

void count_sectors(bool wanted) {
  counting = wanted;
}

void count_sectors(Thread& thread, std::uint64_t address, int bytes, bool is_store) {
  if (!counting) return;
  const Machine& m = machine();
  thread.accesses.resize(m.kernel->code.size());
  Request& request = block_requests[{thread.id / warp_size, thread.next, thread.accesses[thread.next]++}];
  request.is_store = is_store;
  if (request.used.empty()) request.first = address;
  request.scattered |= address != request.first;
  for (int i = 0; i < bytes; ++i) {
    const std::uint64_t at = address + static_cast<unsigned>(i);
    request.used[at / sector_bytes] |= 1u << (at % sector_bytes);
  }
}

void end_block_of_sectors() {
  const Machine& m = machine();
  for (const auto& [key, request] : block_requests) {
    Total& total = totals[{m.kernel->name, kind_of(request)}];
    ++total.requests;
    total.sectors += request.used.size();
    for (const auto& [sector, mask] : request.used) total.bytes += static_cast<unsigned>(std::popcount(mask));
  }
  block_requests.clear();
}

std::string take_sectors() {
  std::string lines;
  for (const auto& [key, total] : totals) {
    lines += key.first + "\t" + key.second + "\t" + std::to_string(total.requests) + "\t" +
        std::to_string(total.sectors) + "\t" + std::to_string(total.bytes) + "\n";
  }
  totals.clear();
  return lines;
}

}  // namespace ptx
