// Statistics per channel and their gradient, in the including tier's namespace and instruction set.
//
// Rows of channels are one array whose groups of lanes hold the same channels again after a period: the least common
// multiple of the channels and a group's lanes. So rows of 3 channels fill registers as well as rows of 64.

constexpr std::int64_t most_of_a_period = 1024;

// 0 where it would be longer than that.
template <class A>
static inline std::int64_t period_of(std::int64_t channels) {
  const std::int64_t power = channels & -channels;  // of two that divides them
  const std::int64_t rows = power < lanes<A> ? lanes<A> / power : 1;
  return channels <= most_of_a_period / rows ? channels * rows : 0;
}

template <class A>
struct ShiftedSums {
  Group<A> sum = {};
  Group<A> squares = {};

  template <class Count>
  DFAD_INLINE_MEMBER void add(const Group<A>& values, const Group<A>& shift, Count count) {
    const Group<A> d = keep(map_group<A>([](auto x, auto k) { return x - k; }, values, shift), count);
    sum = map_group<A>([](auto s, auto v) { return s + v; }, sum, d);
    squares = map_group<A>([](auto s, auto v) { return s + v * v; }, squares, d);
  }
};

// The same for each group of a period, or of a stretch of a row; `shift` holds 0 beyond the values meant.
template <class A>
struct PeriodSums {
  alignas(64) A shift[most_of_a_period];
  alignas(64) A sums[most_of_a_period];
  alignas(64) A squares[most_of_a_period];

  // Shifts for `channels` of rows that lie `stride` apart, over and over for `width` places.
  template <class T>
  void begin(const T* x, std::int64_t rows, std::int64_t stride, std::int64_t channels, std::int64_t width) {
    const std::int64_t places = (width + lanes<A> - 1) / lanes<A> * lanes<A>;
    for (std::int64_t i = 0; i < places; ++i) sums[i] = squares[i] = shift[i] = 0;
    const std::int64_t count = rows < shift_values ? rows : shift_values;
    for (std::int64_t r = 1; r < count; ++r) {
      for (std::int64_t c = 0; c < channels; ++c) sums[c] += A(to_float(x[r * stride + c])) - A(to_float(x[c]));
    }
    for (std::int64_t c = 0; c < channels; ++c) {
      shift[c] = shift_of<A>(to_float(x[c]), sums[c], static_cast<A>(count));
      sums[c] = 0;
    }
    for (std::int64_t i = channels; i < width; ++i) shift[i] = shift[i - channels];
  }

  template <class T>
  DFAD_INLINE_MEMBER void add(const T* x, std::int64_t n) {
    for_each_group<A>(n, [&](std::int64_t i, auto count) {
      ShiftedSums<A> total = {
          load_group<A>(sums + i, Full<A>{}), load_group<A>(squares + i, Full<A>{})};
      total.add(load_group<A>(x + i, count), load_group<A>(shift + i, Full<A>{}), count);
      store_group<A>(sums + i, total.sum, Full<A>{});
      store_group<A>(squares + i, total.squares, Full<A>{});
    });
  }

  void finish(std::int64_t rows, std::int64_t channels, std::int64_t width, Moments* out) const {
    for (std::int64_t c = 0; c < channels; ++c) {
      double sum = 0, sum_of_squares = 0;
      for (std::int64_t i = c; i < width; i += channels) {
        sum += static_cast<double>(sums[i]);
        sum_of_squares += static_cast<double>(squares[i]);
      }
      out[c] = shifted_moments(static_cast<double>(rows), static_cast<double>(shift[c]), sum, sum_of_squares);
    }
  }
};

template <class A, class T>
static inline void row_moments_of(const T* x, std::int64_t rows, std::int64_t channels, Moments* out) {
  PeriodSums<A> period;
  const std::int64_t n = rows * channels, width = period_of<A>(channels);
  if (width == lanes<A>) {
    period.begin(x, rows, channels, channels, width);
    ShiftedSums<A> total;
    const Group<A> shift = load_group<A>(period.shift, Full<A>{});
    for_each_group<A>(n, [&](std::int64_t i, auto count) { total.add(load_group<A>(x + i, count), shift, count); });
    store_group<A>(period.sums, total.sum, Full<A>{});
    store_group<A>(period.squares, total.squares, Full<A>{});
    period.finish(rows, channels, width, out);
    return;
  }
  if (width != 0) {
    period.begin(x, rows, channels, channels, width);
    std::int64_t i = 0;
    for (; i + width <= n; i += width) period.add(x + i, width);
    period.add(x + i, n - i);
    period.finish(rows, channels, width, out);
    return;
  }
  for (std::int64_t c = 0; c < channels; c += most_of_a_period) {
    const std::int64_t left = channels - c, count = left < most_of_a_period ? left : most_of_a_period;
    period.begin(x + c, rows, channels, count, count);
    for (std::int64_t r = 0; r < rows; ++r) period.add(x + r * channels + c, count);
    period.finish(rows, count, count, out + c);
  }
}

template <class A>
static void row_moments(const ChannelValues& x, std::int64_t rows, Moments* out) {
  with_register_type<A>(x.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    row_moments_of<A>(static_cast<const T*>(x.data), rows, x.channels, out);
  });
}

template <class A, class T>
DFAD_INLINE A shift_of_plane(const T* x, std::int64_t size) {
  const std::int64_t count = size < shift_values ? size : shift_values;
  const A first = to_float(x[0]);
  A differences = 0;
  for (std::int64_t i = 1; i < count; ++i) differences += A(to_float(x[i])) - first;
  return shift_of<A>(first, differences, static_cast<A>(count));
}

template <class A>
static void plane_moments(
    const ChannelValues& x, const Planes& planes, std::int64_t samples, std::int64_t sample, Moments* out) {
  with_register_type<A>(x.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    for (std::int64_t c = 0; c < x.channels; ++c) {
      const T* first = static_cast<const T*>(x.data) + c * planes.distance;
      const A shift = shift_of_plane<A>(first, planes.size);
      const Group<A> shifts = all_lanes(shift);
      ShiftedSums<A> total;
      for (std::int64_t s = 0; s < samples; ++s) {
        const T* plane = first + s * sample;
        for_each_group<A>(planes.size, [&](std::int64_t i, auto count) {
          total.add(load_group<A>(plane + i, count), shifts, count);
        });
      }
      LaneSums<A> sums, squares;
      sums.add_tile(total.sum);
      squares.add_tile(total.squares);
      out[c] = shifted_moments(
          static_cast<double>(samples * planes.size), static_cast<double>(shift), sums.sum(), squares.sum());
    }
  });
}

template <class A, class T, class Count>
DFAD_INLINE void slope_group(
    const T* x, const Group<A>& mean, const Group<A>& slope, const Group<A>& level, T* out, Count count) {
  const auto gradient = [](auto v, auto m, auto s, auto l) { return ChannelGradient{}(v, m, s, l); };
  store_group<A>(out, map_group<A>(gradient, load_group<A>(x, count), mean, slope, level), count);
}

// For n values, the first of them at the start of a period.
template <class A, class T>
DFAD_INLINE void slope_period(const ChannelSlopes<A>& by, const T* x, T* out, std::int64_t n) {
  for_each_group<A>(n, [&](std::int64_t i, auto count) {
    slope_group<A>(
        x + i, load_group<A>(by.mean + i, count), load_group<A>(by.slope + i, count),
        load_group<A>(by.level + i, count), out + i, count);
  });
}

template <class A, class T>
static inline void row_gradient_of(
    const T* x, std::int64_t rows, std::int64_t channels, const ChannelSlopes<A>& by, T* out) {
  const std::int64_t n = rows * channels, width = period_of<A>(channels);
  if (width == 0 || width == channels) {
    for (std::int64_t i = 0; i < n; i += channels) slope_period<A>(by, x + i, out + i, channels);
    return;
  }
  alignas(64) A mean[most_of_a_period], slope[most_of_a_period], level[most_of_a_period];
  for (std::int64_t begin = 0; begin < width; begin += channels) {
    std::memcpy(mean + begin, by.mean, channels * sizeof(A));
    std::memcpy(slope + begin, by.slope, channels * sizeof(A));
    std::memcpy(level + begin, by.level, channels * sizeof(A));
  }
  if (width == lanes<A>) {
    const Group<A> means = load_group<A>(mean, Full<A>{}), slopes = load_group<A>(slope, Full<A>{}),
                   levels = load_group<A>(level, Full<A>{});
    for_each_group<A>(n, [&](std::int64_t i, auto count) {
      slope_group<A>(x + i, means, slopes, levels, out + i, count);
    });
    return;
  }
  const ChannelSlopes<A> repeated = {mean, slope, level};
  for (std::int64_t i = 0; i < n; i += width) {
    slope_period<A>(repeated, x + i, out + i, n - i < width ? n - i : width);
  }
}

template <class A>
static void row_gradient(const ChannelValues& x, const ChannelSlopes<A>& by, std::int64_t rows, void* out) {
  with_register_type<A>(x.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    row_gradient_of<A>(static_cast<const T*>(x.data), rows, x.channels, by, static_cast<T*>(out));
  });
}

template <class A>
static void plane_gradient(
    const ChannelValues& x, const ChannelSlopes<A>& by, const Planes& planes, std::int64_t first, std::int64_t count,
    void* out) {
  with_register_type<A>(x.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    std::int64_t c = first;
    for (std::int64_t p = 0; p < count; ++p) {
      const T* source = static_cast<const T*>(x.data) + p * planes.distance;
      T* target = static_cast<T*>(out) + p * planes.distance;
      const Group<A> mean = all_lanes(by.mean[c]), slope = all_lanes(by.slope[c]), level = all_lanes(by.level[c]);
      for_each_group<A>(planes.size, [&](std::int64_t i, auto lanes_meant) {
        slope_group<A>(source + i, mean, slope, level, target + i, lanes_meant);
      });
      c = c + 1 == x.channels ? 0 : c + 1;
    }
  });
}
