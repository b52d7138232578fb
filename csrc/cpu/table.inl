// The tier's kernels, as its callers see them.

template <class A>
constexpr KernelsOf<A> kernels_of = {
    {&hinge_loss<A>, &hinge_gradient<A>, &pack<A>},
    {&l1_sum<A>, &l1_map<A>, &l1_gradient<A>},
    &mix<A>,
    {&interpolated_sum<A>, &interpolated_map<A>, &interpolated_student_gradient<A>, &interpolated_teacher_gradient<A>},
    {&kl_loss<A>, &kl_gradient<A>},
    {&row_moments<A>, &plane_moments<A>, &row_gradient<A>, &plane_gradient<A>},
    {&norm_apply<A>, &norm_sums<A>, &norm_gradient<A>},
};

constexpr BlockKernels block_kernels = {
    &block_statistics, &block_normalise,           &block_gather,        &block_spread, &block_stream,
    &block_add_rows,   &block_activation_gradient, &block_norm_gradient,
};

const Kernels kernels = {
    kernels_of<float>,
    kernels_of<double>,
    block_kernels,
    &multiply_panels,
    {&winograd_input, &winograd_output, &winograd_output_adjoint, &winograd_input_adjoint, &winograd_filters,
     &winograd_filters_adjoint, &winograd_channel_sums},
    {&upsampled_input, &upsampled_output, &upsampled_output_adjoint, &upsampled_input_adjoint},
    {&narrow_sums, &narrow_gradient},
    {&direct_pack, &direct_convolve, &direct_weight_gradient, &direct_cut},
    {&tiles_input, &tiles_gradient, &tiles_output, &tiles_multiply, &tiles_weight_gradient, &tiles_filters,
     &tiles_filters_adjoint},
};
