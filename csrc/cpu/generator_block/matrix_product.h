#pragma once

// Row-major float32 matrix products on memory that the caller holds, by torch's own BLAS, on the calling thread.

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>

#include <cstdint>

// In a torch built with MKL. It returns the setting before; 0 stands for none.
extern "C" __attribute__((weak)) int MKL_Set_Num_Threads_Local(int);

namespace dfad::cpu {

// While it lives, products on this thread are cut as for one thread. Inside a parallel region MKL runs them on the
// calling thread anyway, but cuts long sums by the number of threads that it might have had, which shows in their last
// bits.
class OneThread {
 public:
  OneThread() : before_(MKL_Set_Num_Threads_Local ? MKL_Set_Num_Threads_Local(1) : 0) {}
  ~OneThread() {
    if (MKL_Set_Num_Threads_Local) MKL_Set_Num_Threads_Local(before_);
  }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

inline at::Tensor matrix(const float* data, int64_t rows, int64_t columns) {
  return at::from_blob(const_cast<float*>(data), {rows, columns}, at::TensorOptions(at::kFloat));
}

// c = a b, with a [rows, depth] and b [depth, columns].
inline void multiply(int64_t rows, int64_t columns, int64_t depth, const float* a, const float* b, float* c) {
  const at::AutoDispatchBelowADInplaceOrView below;
  const OneThread one;
  at::Tensor out = matrix(c, rows, columns);
  at::mm_out(out, matrix(a, rows, depth), matrix(b, depth, columns));
}

// c = a b^T, with b [columns, depth].
inline void multiply_transposed(
    int64_t rows, int64_t columns, int64_t depth, const float* a, const float* b, float* c) {
  const at::AutoDispatchBelowADInplaceOrView below;
  const OneThread one;
  at::Tensor out = matrix(c, rows, columns);
  at::mm_out(out, matrix(a, rows, depth), matrix(b, columns, depth).t());
}

// c += a^T b, with a [depth, rows] and b [depth, columns].
inline void add_product(int64_t rows, int64_t columns, int64_t depth, const float* a, const float* b, float* c) {
  const at::AutoDispatchBelowADInplaceOrView below;
  const OneThread one;
  at::Tensor out = matrix(c, rows, columns);
  at::addmm_out(out, out, matrix(a, depth, rows).t(), matrix(b, depth, columns));
}

}  // namespace dfad::cpu
