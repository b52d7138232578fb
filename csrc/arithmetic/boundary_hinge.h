#pragma once

#include "host_device.h"

namespace dfad {

// h(s, t) = relu(u)^2,  u = m + s where the teacher is off (t <= 0), else m - s.   dh/ds = +-2 relu(u)
template <class A>
struct BoundaryHinge {
  using Compute = A;
  static constexpr bool has_teacher_gradient = false;

  A margin;

  DFAD_HD A loss(A s, A t) const {
    const A u = inside_margin(s, t <= A(0));
    const A r = u <= A(0) ? A(0) : u;  // not u > 0 ? u : 0, which would turn NaN into 0
    return r * r;
  }

  DFAD_HD A student_gradient(A s, A t, A grad) const {
    const bool off = t <= A(0);
    const A u = inside_margin(s, off);
    const A slope = grad * ((off ? A(2) : A(-2)) * u);
    return u <= A(0) ? A(0) : slope;
  }

  DFAD_HD A inside_margin(A s, bool off) const {
    return off ? margin + s : margin - s;
  }
};

}  // namespace dfad
