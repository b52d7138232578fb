#pragma once

#include "host_device.h"

namespace dfad {

// w x + v y. Forward: w = lam, v = 1 - lam. Backward: the same on gradients, with the inverse permutation.
template <class A>
struct Mixture {
  A own;
  A other;

  template <class V>
  DFAD_HD V operator()(V x, V y) const {
    return own * x + other * y;
  }
};

}  // namespace dfad
