#pragma once

#include "host_device.h"

namespace dfad {

// w x + v y. Forward: w = lam, v = 1 - lam. Backward: the same on gradients, with the inverse permutation.
template <class A>
struct Mixture {
  using Compute = A;

  A own;
  A other;

  DFAD_HD A operator()(A x, A y) const {
    return own * x + other * y;
  }
};

}  // namespace dfad
