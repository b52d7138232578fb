#pragma once

#include <limits>

#include "host_device.h"

namespace dfad {

// Mean and sum of squared deviations from it, of `count` values.
struct Moments {
  double count, mean, squares;

  // What these values add to the squared deviations from the mean of more values.
  DFAD_HD double around(double of_all) const {
    const double distance = mean - of_all;
    return squares + count * (distance * distance);
  }
};

// From the sums of x - shift and of its square. Rounding must not give negative squares; NaN stays NaN.
DFAD_HD Moments shifted_moments(double count, double shift, double sum, double sum_of_squares) {
  const double squares = sum_of_squares - sum * (sum / count);
  return {count, shift + sum / count, squares < 0 ? 0 : squares};
}

// How many of a block's values its shift is the mean of: one alone may be an outlier.
constexpr int shift_values = 8;

// A shift near the values, so that a mean far from 0 takes no digits of the deviations: their first, and the sum of the
// differences from it. Where that is not finite, 0: infinity less infinity would be NaN.
template <class A>
DFAD_HD A shift_of(A first, A differences, A count) {
  constexpr A largest = std::numeric_limits<A>::max();
  const A shift = first + differences / count;
  return shift >= -largest && shift <= largest ? shift : A(0);
}

// mean = sum x / n, variance = sum (x - mean)^2 / n.   d/dx = grad_mean / n + 2 grad_variance / n (x - mean)
// with level = grad_mean / n and slope = 2 grad_variance / n. V is a number or a register full of them.
struct ChannelGradient {
  template <class V>
  DFAD_HD V operator()(V x, V mean, V slope, V level) const {
    return slope * (x - mean) + level;
  }
};

}  // namespace dfad
