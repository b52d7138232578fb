#include "memory.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>

#include "error.h"
#include "findings.h"
#include "ordering.h"
#include "sectors.h"

namespace ptx {
namespace {

struct Allocation {
  std::uint64_t bytes;
  std::vector<Cell> cells;  // made at the first access
};

std::map<std::uint64_t, Allocation> allocations;
std::mutex allocating;

// The cells of global memory from this address on, or null where it is out of bounds.
Cell* global_cells(std::uint64_t address, int bytes) {
  const std::lock_guard<std::mutex> lock(allocating);
  auto found = allocations.upper_bound(address);
  if (found == allocations.begin()) return nullptr;
  --found;
  auto& [begin, allocation] = *found;
  if (address + static_cast<unsigned>(bytes) > begin + allocation.bytes) return nullptr;
  if (allocation.cells.empty()) allocation.cells.resize(allocation.bytes);
  return &allocation.cells[address - begin];
}

bool in_parameters(std::uint64_t address, int bytes) {
  const std::vector<char>& arguments = machine().kernel->arguments;
  const auto begin = reinterpret_cast<std::uint64_t>(arguments.data());
  return address >= begin && address + static_cast<unsigned>(bytes) <= begin + arguments.size();
}

void check_alignment(std::uint64_t address, int bytes) {
  if (address % static_cast<unsigned>(bytes) != 0) {
    report("an access of " + std::to_string(bytes) + " bytes that is not aligned to them");
  }
}

bool in_shared(std::uint64_t address, int bytes) {
  if (address + static_cast<unsigned>(bytes) <= machine().shared.size()) return true;
  report("out of bounds of shared memory");
  return false;
}

void check_written(const Cell* cells, int bytes) {
  if (std::any_of(cells, cells + bytes, [](const Cell& cell) { return cell.writer.thread < 0; })) {
    report("read of shared memory that nobody wrote");
  }
}

char* local_at(Thread& thread, std::uint64_t address, int bytes) {
  if (address + static_cast<unsigned>(bytes) > thread.local.size()) fail("out of bounds of local memory");
  return &thread.local[address];
}

}  // namespace

void add_allocation(std::uint64_t begin, std::uint64_t bytes) {
  const std::lock_guard<std::mutex> lock(allocating);
  allocations[begin] = {bytes, {}};
}

void remove_allocation(std::uint64_t begin) {
  const std::lock_guard<std::mutex> lock(allocating);
  allocations.erase(begin);
}

std::uint64_t address_of(const Thread& thread, const Instruction& instruction) {
  std::uint64_t base = read(thread, instruction.base);
  return base + static_cast<std::uint64_t>(instruction.offset);
}

void load(Thread& thread, Space space, std::uint64_t address, int bytes, char* values) {
  check_alignment(address, bytes);
  std::memset(values, 0xff, static_cast<std::size_t>(bytes));  // where it is out of bounds
  if (space == Space::shared) {
    if (!in_shared(address, bytes)) return;
    Cell* cells = &machine().shared_cells[address];
    check_written(cells, bytes);
    note_read(thread, cells, bytes);
    std::memcpy(values, &machine().shared[address], static_cast<std::size_t>(bytes));
  } else if (space == Space::local) {
    std::memcpy(values, local_at(thread, address, bytes), static_cast<std::size_t>(bytes));
  } else if (in_parameters(address, bytes)) {
    std::memcpy(values, reinterpret_cast<const void*>(address), static_cast<std::size_t>(bytes));
  } else if (Cell* cells = global_cells(address, bytes)) {
    count_sectors(thread, address, bytes, false);
    note_read(thread, cells, bytes);
    std::memcpy(values, reinterpret_cast<const void*>(address), static_cast<std::size_t>(bytes));
  } else {
    report("read out of bounds of global memory");
  }
}

void store(Thread& thread, Space space, std::uint64_t address, int bytes, const char* values) {
  check_alignment(address, bytes);
  if (space == Space::shared) {
    if (!in_shared(address, bytes)) return;
    note_write(thread, &machine().shared_cells[address], bytes, values);
    std::memcpy(&machine().shared[address], values, static_cast<std::size_t>(bytes));
  } else if (space == Space::local) {
    std::memcpy(local_at(thread, address, bytes), values, static_cast<std::size_t>(bytes));
  } else if (Cell* cells = global_cells(address, bytes)) {
    count_sectors(thread, address, bytes, true);
    note_write(thread, cells, bytes, values);
    std::memcpy(reinterpret_cast<void*>(address), values, static_cast<std::size_t>(bytes));
  } else {
    report("write out of bounds of global memory");
  }
}

char* atomic_access(Thread& thread, Space space, std::uint64_t address, int bytes) {
  check_alignment(address, bytes);
  if (space == Space::shared) {
    if (!in_shared(address, bytes)) return nullptr;
    check_written(&machine().shared_cells[address], bytes);
    note_atomic(thread, &machine().shared_cells[address], bytes);
    return &machine().shared[address];
  }
  Cell* const cells = global_cells(address, bytes);
  if (cells == nullptr) {
    report("an atomic operation out of bounds of global memory");
    return nullptr;
  }
  note_atomic(thread, cells, bytes);
  note_atomic_at(thread, address);
  return reinterpret_cast<char*>(address);
}

}  // namespace ptx
