#pragma once

#include "host_device.h"

namespace dfad {

// |s - t|.   d/ds = sign(s - t) = -d/dt, with sign(0) = 0 and, as in torch.sign, sign(NaN) = 0
// V is a number or a register full of them.
struct AbsoluteDifference {
  template <class V>
  DFAD_HD V loss(V s, V t) const {
    const V d = s - t;
    return d > 0 ? d : 0 - d;
  }

  // A product, so that an infinite grad gives NaN where s == t, as in eager mode.
  template <class V>
  DFAD_HD V student_gradient(V s, V t, V grad) const {
    const V d = s - t, zero = {}, one = zero + 1;
    const V sign = d > 0 ? one : (d < 0 ? -one : zero);
    return sign * grad;
  }

  // The same of where s is at least t and where it is at most: both at a tie, neither for NaN. M is a bool or lanes of V.
  template <class M, class V>
  DFAD_HD V student_gradient_of_signs(M at_least, M at_most, V grad) const {
    const V zero = {}, one = zero + 1;
    return (select(at_least, one, zero) - select(at_most, one, zero)) * grad;
  }
};

}  // namespace dfad
