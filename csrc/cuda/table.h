#pragma once

// Several tensors in one launch: the table of what each block works on travels in the kernel's arguments.

#include <c10/util/SmallVector.h>

#include <algorithm>
#include <cstdint>

#include "../arithmetic/host_device.h"

namespace dfad::cuda {

template <class Item, int capacity>
struct Table {
  int64_t ends[capacity];  // the block at which each item's blocks end
  Item items[capacity];
  int32_t count;

  // The item that a block works on; `chunk` becomes the block's number within it.
  DFAD_HD const Item& find(int64_t block, int64_t& chunk) const {
    int k = 0;
    while (block >= ends[k]) ++k;
    chunk = k == 0 ? block : block - ends[k - 1];
    return items[k];
  }
};

// Calls body(table, blocks) for one table after another, until all items are in one; an item has item.chunks() blocks.
template <int capacity, class Item, class Body>
void for_each_table(const c10::SmallVectorImpl<Item>& items, const Body& body) {
  for (size_t first = 0; first < items.size(); first += capacity) {
    Table<Item, capacity> table = {};
    table.count = static_cast<int32_t>(std::min<size_t>(capacity, items.size() - first));
    int64_t blocks = 0;
    for (int k = 0; k < table.count; ++k) {
      table.items[k] = items[first + k];
      table.ends[k] = blocks += table.items[k].chunks();
    }
    body(table, blocks);
  }
}

}  // namespace dfad::cuda
