#pragma once

#include "host_device.h"

namespace dfad {

// h(s, t) = relu(u)^2,  u = m + s where the teacher is off (t <= 0), else m - s.   dh/ds = +-2 relu(u)
// V is a number or a register full of them, and M a bool or one per lane: whether the teacher is off.
template <class A>
struct BoundaryHinge {
  A margin;

  template <class V, class M>
  DFAD_HD V loss(V s, M off) const {
    const V u = inside_margin(s, off), zero = {};
    const V r = u <= 0 ? zero : u;  // not u > 0 ? u : 0, which would turn NaN into 0
    return r * r;
  }

  template <class V, class M>
  DFAD_HD V student_gradient(V s, M off, V grad) const {
    const V u = inside_margin(s, off), zero = {}, two = zero + 2;
    const V slope = grad * (select(off, two, -two) * u);
    return u <= 0 ? zero : slope;
  }

  template <class V, class M>
  DFAD_HD V inside_margin(V s, M off) const {
    const V below = margin + s, above = margin - s;
    return select(off, below, above);
  }
};

}  // namespace dfad
