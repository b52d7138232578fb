// A generator's block on float32 pixels in channels_last, in the including tier's namespace and instruction set.
//
// `taps` are the products of pixels with the nine taps of the weights of a 3x3 convolution, [pixels, 9, channels].

// Mean and sum of squared deviations over rows of channels.
static void block_statistics(const float* x, std::int64_t rows, std::int64_t channels, float* mean, float* squares) {
  for (std::int64_t c = 0; c < channels; ++c) mean[c] = squares[c] = 0;
  for (std::int64_t r = 0; r < rows; ++r) {
#pragma omp simd
    for (std::int64_t c = 0; c < channels; ++c) mean[c] += x[r * channels + c];
  }
  const float share = 1.0f / static_cast<float>(rows);
#pragma omp simd
  for (std::int64_t c = 0; c < channels; ++c) mean[c] *= share;
  for (std::int64_t r = 0; r < rows; ++r) {
#pragma omp simd
    for (std::int64_t c = 0; c < channels; ++c) {
      const float deviation = x[r * channels + c] - mean[c];
      squares[c] += deviation * deviation;
    }
  }
}

// The row a page ahead: the processor's own prefetching ends with the page. Past the end it does nothing.
static inline void prefetch_row(const float* x, std::int64_t row, std::int64_t channels) {
  constexpr std::int64_t ahead = 1024, line = 16;
  const float* start = x + row * channels + ahead;
  for (std::int64_t c = 0; c < channels; c += line) __builtin_prefetch(start + c, 0, 2);
}

static void block_normalise(const BlockNorm& norm, const float* x, std::int64_t rows, float* out) {
  const std::int64_t channels = norm.channels;
  const float *scale = norm.scale, *shift = norm.shift, slope = norm.slope;
  for (std::int64_t r = 0; r < rows; ++r) {
    prefetch_row(x, r, channels);
#pragma omp simd
    for (std::int64_t c = 0; c < channels; ++c) {
      const float y = x[r * channels + c] * scale[c] + shift[c];
      out[r * channels + c] = y > 0 ? y : y * slope;
    }
  }
}

// The pixel (i, j) of taps that begin at row `first`; zeros beyond the image.
static inline const float* block_pixel(
    const BlockImage& image, const float* taps, std::int64_t first, std::int64_t i, std::int64_t j) {
  const bool inside = i >= 0 && i < image.height && j >= 0 && j < image.width;
  return inside ? taps + ((i - first) * image.width + j) * 9 * image.channels : image.zeros;
}

// Output rows of the input rows [begin, end), of which `out` holds the first, from taps that begin at row `first` and
// hold one more row on either side.
static void block_gather(
    const BlockImage& image, const float* taps, std::int64_t first, const float* bias, std::int64_t begin,
    std::int64_t end, float* out) {
  const std::int64_t n = image.channels, width = image.width;
  for (std::int64_t i = begin; i < end; ++i) {
    for (std::int64_t j = 0; j < width; ++j) {
      const auto at = [&](std::int64_t di, std::int64_t dj) { return block_pixel(image, taps, first, i + di, j + dj); };
      const float *nw = at(-1, -1), *no = at(-1, 0), *ne = at(-1, 1), *we = at(0, -1), *me = at(0, 0), *ea = at(0, 1),
                  *sw = at(1, -1), *so = at(1, 0), *se = at(1, 1);
      float* y = out + ((i - begin) * width + j) * n;
#pragma omp simd
      for (std::int64_t c = 0; c < n; ++c) {
        y[c] = bias[c] + ((nw[c] + no[n + c] + ne[2 * n + c]) + (we[3 * n + c] + me[4 * n + c] + ea[5 * n + c]) +
                          (sw[6 * n + c] + so[7 * n + c] + se[8 * n + c]));
      }
    }
  }
}

// The transpose of block_gather: gradients of the taps of input rows [begin, end).
static void block_spread(
    const BlockImage& image, const float* grad, std::int64_t begin, std::int64_t end, float* taps) {
  const std::int64_t n = image.channels, width = image.width;
  const auto at = [&](std::int64_t i, std::int64_t j) {
    return i >= 0 && i < image.height && j >= 0 && j < width ? grad + (i * width + j) * n : image.zeros;
  };
  for (std::int64_t i = begin; i < end; ++i) {
    for (std::int64_t j = 0; j < width; ++j) {
      float* z = taps + ((i - begin) * width + j) * 9 * n;
      for (std::int64_t tap = 0; tap < 9; ++tap) {
        const float* y = at(i + 1 - tap / 3, j + 1 - tap % 3);
#pragma omp simd
        for (std::int64_t c = 0; c < n; ++c) z[tap * n + c] = y[c];
      }
    }
  }
}

// Copies past the caches: out is far larger than they are, and a plain store would first read what it overwrites.
static void block_stream(const float* x, std::int64_t count, float* out) {
#if DFAD_REGISTER_BYTES == 64
  std::int64_t i = 0;
  for (; i < count && reinterpret_cast<std::uintptr_t>(out + i) % 64; ++i) out[i] = x[i];
  for (; i + 16 <= count; i += 16) _mm512_stream_ps(out + i, _mm512_loadu_ps(x + i));
  _mm_sfence();
  for (; i < count; ++i) out[i] = x[i];
#else
  std::memcpy(out, x, static_cast<std::size_t>(count) * sizeof(float));
#endif
}

static void block_add_rows(const float* x, std::int64_t rows, std::int64_t channels, float* sums) {
  for (std::int64_t r = 0; r < rows; ++r) {
#pragma omp simd
    for (std::int64_t c = 0; c < channels; ++c) sums[c] += x[r * channels + c];
  }
}

// The gradient of what block_normalise gave becomes that of its affine map's result, in place; adds up its sums and
// those of its products with the normalised x.
static void block_activation_gradient(
    const BlockNorm& norm, const float* x, std::int64_t rows, float* grad, float* sums, float* products) {
  const std::int64_t channels = norm.channels;
  const float *scale = norm.scale, *shift = norm.shift, *mean = norm.mean, *rstd = norm.rstd, slope = norm.slope;
  for (std::int64_t r = 0; r < rows; ++r) {
    prefetch_row(x, r, channels);
#pragma omp simd
    for (std::int64_t c = 0; c < channels; ++c) {
      const std::int64_t e = r * channels + c;
      const float g = x[e] * scale[c] + shift[c] > 0 ? grad[e] : grad[e] * slope;
      grad[e] = g;
      sums[c] += g;
      products[c] += g * ((x[e] - mean[c]) * rstd[c]);
    }
  }
}

// The rest of the batch norm's gradient, in place: through the mean and the variance of the batch. `sums` and
// `products` are means over the batch.
static void block_norm_gradient(
    const BlockNorm& norm, const float* x, std::int64_t rows, const float* sums, const float* products, float* grad) {
  const std::int64_t channels = norm.channels;
  const float *scale = norm.scale, *mean = norm.mean, *rstd = norm.rstd;
  for (std::int64_t r = 0; r < rows; ++r) {
    prefetch_row(x, r, channels);
#pragma omp simd
    for (std::int64_t c = 0; c < channels; ++c) {
      const std::int64_t e = r * channels + c;
      grad[e] = scale[c] * (grad[e] - sums[c] - ((x[e] - mean[c]) * rstd[c]) * products[c]);
    }
  }
}
