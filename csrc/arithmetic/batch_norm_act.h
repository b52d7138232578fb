#pragma once

#include "host_device.h"

namespace dfad {

// y = (x - mean) scale + bias, scale = weight / sqrt(variance + eps);   out = y + residual where that is positive, else
// slope times it.   V is a number or a register full of them, and M a bool or one per lane: whether a neuron is off.
template <class A>
struct BatchNormAct {
  A slope;

  template <class V>
  DFAD_HD V normalized(V x, V mean, V scale, V bias) const {
    return (x - mean) * scale + bias;
  }

  // For the activation's input, and for a gradient at its output. A ReLU does not multiply: 0 times infinity is NaN.
  template <class V, class M>
  DFAD_HD V activated(V value, M off) const {
    const V zero = {};
    return select(off, slope == 0 ? zero : value * slope, value);
  }

  // `by_x` and `level` are what goes through mean and variance: -scale mean(g x^) / sqrt(variance + eps) and
  // -scale mean(g), where x^ is the normalized x.
  template <class V>
  DFAD_HD V input_gradient(V grad, V x, V mean, V scale, V by_x, V level) const {
    return grad * scale + ((x - mean) * by_x + level);
  }
};

}  // namespace dfad
