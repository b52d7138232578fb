#pragma once

#include <cmath>

#include "host_device.h"

namespace dfad {

// |s - t|.   d/ds = sign(s - t) = -d/dt, with sign(0) = 0 and, as in torch.sign, sign(NaN) = 0
template <class A>
struct AbsoluteDifference {
  using Compute = A;
  static constexpr bool has_teacher_gradient = true;

  DFAD_HD A loss(A s, A t) const {
    return std::fabs(s - t);
  }

  // A product, so that an infinite grad gives NaN where s == t, as in eager mode.
  DFAD_HD A student_gradient(A s, A t, A grad) const {
    const A d = s - t;
    const A sign = d > A(0) ? A(1) : (d < A(0) ? A(-1) : A(0));
    return sign * grad;
  }
};

}  // namespace dfad
