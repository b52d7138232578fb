#include "collective.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>

#include "error.h"
#include "findings.h"
#include "memory.h"

namespace ptx {
namespace {

template <class Body>
void for_each_lane(std::uint32_t active, const Body& body) {
  for (unsigned lane = 0; lane < warp_size; ++lane) {
    if ((active >> lane & 1) != 0) body(lane);
  }
}

// The lane to take from, as in the table of shfl.sync: `limit` holds the last lane and the width of a group.
unsigned source_of(unsigned lane, const std::string& variant, unsigned distance, unsigned limit, bool& valid) {
  const unsigned group = limit >> 8 & 31, last = (lane & group) | (limit & 31 & ~group);
  unsigned source;
  if (variant == "up") {
    source = lane - distance;
    valid = static_cast<int>(source) >= static_cast<int>(last);
    return valid ? source : lane;
  }
  if (variant == "down") {
    source = lane + distance;
  } else if (variant == "bfly") {
    source = lane ^ distance;
  } else {
    source = (lane & group) | (distance & ~group & 31);
  }
  valid = source <= last;
  return valid ? source : lane;
}

void shuffle(const Lanes& lanes, std::uint32_t active, const Instruction& instruction) {
  std::array<std::uint64_t, warp_size> values{};
  for_each_lane(active, [&](unsigned lane) { values[lane] = read(*lanes[lane], instruction.sources[0]); });
  for_each_lane(active, [&](unsigned lane) {
    Thread& thread = *lanes[lane];
    const auto distance = static_cast<unsigned>(read(thread, instruction.sources[1]) & 31);
    const auto limit = static_cast<unsigned>(read(thread, instruction.sources[2]));
    bool valid = false;
    const unsigned source = source_of(lane, instruction.variant, distance, limit, valid);
    if ((active >> source & 1) == 0) report("a shuffle from a lane that takes no part");
    write(thread, instruction.to[0], values[source]);
    write(thread, instruction.also_to, valid);
  });
}

void reduce(const Lanes& lanes, std::uint32_t active, const Instruction& instruction) {
  if (instruction.variant != "add") fail("unknown reduction: " + instruction.text);
  std::uint64_t sum = 0;
  for_each_lane(active, [&](unsigned lane) { sum += read(*lanes[lane], instruction.sources[0]); });
  for_each_lane(active, [&](unsigned lane) { write(*lanes[lane], instruction.to[0], sum); });
}

void vote(const Lanes& lanes, std::uint32_t active, const Instruction& instruction) {
  std::uint32_t ballot = 0;
  for_each_lane(active, [&](unsigned lane) {
    ballot |= static_cast<std::uint32_t>(read_predicate(*lanes[lane], instruction.sources[0])) << lane;
  });
  const std::uint64_t result = instruction.variant == "ballot" ? ballot
      : instruction.variant == "any" ? ballot != 0
      : instruction.variant == "all" ? ballot == active
                                     : throw std::runtime_error("unknown vote: " + instruction.text);
  for_each_lane(active, [&](unsigned lane) { write(*lanes[lane], instruction.to[0], result); });
}

// Lane k gives the address of row k % 8 of matrix k / 8; each lane gets two of its elements.
void load_matrices(const Lanes& lanes, const Instruction& instruction) {
  std::array<std::uint64_t, warp_size> rows{};
  for_each_lane(~0u, [&](unsigned lane) { rows[lane] = address_of(*lanes[lane], instruction); });
  for_each_lane(~0u, [&](unsigned lane) {
    for (std::size_t matrix = 0; matrix < instruction.to.size(); ++matrix) {
      const std::uint64_t row = rows[8 * matrix + lane / 4];
      if (row % 16 != 0) report("a row of a matrix that is not aligned to 16 bytes");
      std::uint32_t pair;
      std::array<char, sizeof pair> values;
      load(*lanes[lane], instruction.space, row + 4 * (lane % 4), sizeof pair, values.data());
      std::memcpy(&pair, values.data(), sizeof pair);
      write(*lanes[lane], instruction.to[matrix], pair);
    }
  });
}

}  // namespace

void execute_together(const Lanes& lanes, std::uint32_t active, const Instruction& instruction) {
  const std::string name = instruction.operation.substr(0, instruction.operation.find('.'));
  if (name == "shfl") {
    shuffle(lanes, active, instruction);
  } else if (name == "redux") {
    reduce(lanes, active, instruction);
  } else if (name == "vote") {
    vote(lanes, active, instruction);
  } else if (name == "ldmatrix") {
    if (active != ~0u) fail("a matrix for a part of a warp");
    load_matrices(lanes, instruction);
  }
  for_each_lane(active, [&](unsigned lane) {
    Thread& thread = *lanes[lane];
    if (name == "bar") ++thread.warp_barriers;
    thread.state = Thread::State::running;
    ++thread.next;
  });
}

}  // namespace ptx
