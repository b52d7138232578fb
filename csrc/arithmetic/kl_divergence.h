#pragma once

#include <limits>

#include "host_device.h"

namespace dfad {

// Neither 0 nor infinite, however extreme the temperature: 0 times -inf is no logit.
template <class A>
DFAD_HD A inverse_temperature_of(double temperature) {
  constexpr double least = std::numeric_limits<A>::min(), most = std::numeric_limits<A>::max();
  const double inverse = 1.0 / temperature;
  return static_cast<A>(inverse < least ? least : (inverse > most ? most : inverse));
}

// One class's part of sum_c p (log p - log q), and the derivatives by the logits over the temperature:
// d/ds = q - p,   d/dt = p (log p - log q - L)
// A class with p == 0 counts 0, though its log p may be -inf. V is a number or a register full of them.
struct KLDivergence {
  template <class V>
  DFAD_HD V loss(V p, V log_p, V log_q) const {
    const V zero = {}, term = p * (log_p - log_q);
    return p == 0 ? zero : term;
  }

  template <class V>
  DFAD_HD V student_gradient(V p, V q, V grad) const {
    return grad * (q - p);
  }

  template <class V>
  DFAD_HD V teacher_gradient(V p, V log_p, V log_q, V divergence, V grad) const {
    const V zero = {}, slope = grad * (p * (log_p - log_q - divergence));
    return p == 0 ? zero : slope;
  }
};

}  // namespace dfad
