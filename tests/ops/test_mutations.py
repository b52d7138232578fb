"""The tests of the tests: a kernel with a defect must turn some test red."""

import shutil
from pathlib import Path

import pytest

from dfad_fast import backends

from .mutants import Extension, Mutation, Runner, copy_of_the_package, mutate, restore

pytestmark = [pytest.mark.mutants, pytest.mark.slow, pytest.mark.backends("cpp"), pytest.mark.timeout(600)]

HINGE = "csrc/arithmetic/boundary_hinge.h"
CHANNELS = "csrc/arithmetic/channel_statistics.h"
KERNELS = {
    "margin's sign": Mutation(
        HINGE,
        "below = margin + s, above = margin - s",
        "below = margin - s, above = margin + s",
        "test_hinge.py",
    ),
    "t == 0 is on": Mutation(
        "csrc/cpu/lanes.inl",
        "not_positive(F32 x) { return {x <= 0}; }",
        "not_positive(F32 x) { return {x < 0}; }",
        "test_hinge.py",
    ),
    "NaN is off": Mutation(
        "csrc/cpu/lanes.inl",
        "not_positive(F32 x) { return {x <= 0}; }",
        "not_positive(F32 x) { return {~(x > 0)}; }",
        "test_hinge.py",
    ),
    "NaN is no loss": Mutation(HINGE, "r = u <= 0 ? zero : u", "r = u > 0 ? u : zero", "test_hinge.py"),
    "a tie has a slope": Mutation(
        HINGE, "return u <= 0 ? zero : slope", "return u < 0 ? zero : slope", "test_hinge.py"
    ),
    "a tie of L1 has a sign": Mutation(
        "csrc/cpu/l1.inl", "at_most & valid_bits<A>(count)", "~at_least & valid_bits<A>(count)", "test_l1.py"
    ),
    "the sides of L1 are swapped": Mutation(
        "csrc/arithmetic/absolute_difference.h",
        "select(at_least, one, zero) - select(at_most, one, zero)",
        "select(at_most, one, zero) - select(at_least, one, zero)",
        "test_l1.py",
    ),
    "no tail": Mutation(
        "csrc/cpu/lanes.inl", "if (i < n) body(i, Rest{n - i});", "", "test_guards.py", "l1 and tail"
    ),
    "a tail one too long": Mutation(
        "csrc/cpu/lanes.inl",
        "if (i < n) body(i, Rest{n - i});",
        "if (i < n) body(i, Rest{n - i + 1});",
        "test_packed_signs.py",
        "bits",
    ),
    "padding agrees": Mutation(
        "csrc/cpu/boundary_hinge.inl",
        "~(teacher_off ^ student_off) & valid_bits<A>(count)",
        "~(teacher_off ^ student_off)",
        "test_agreement.py",
    ),
    "a tile's shared rows are written over": Mutation(
        "csrc/cpu/winograd/winograd.inl",
        "shared_rows = at.row > 0 ? 2 : 0",
        "shared_rows = 0",
        "test_winograd.py",
        "result_and_gradients",
    ),
    "a filter's last tap has another weight": Mutation(
        "csrc/cpu/winograd/transforms.inl",
        "y[5] = x[2];",
        "y[5] = -x[2];",
        "test_winograd.py",
        "result_and_gradients",
    ),
    "a cut gradient passes": Mutation(
        "csrc/cpu/winograd/winograd.inl",
        "select(not_positive(result), F32{}, grad)",
        "grad",
        "test_winograd.py",
        "relu",
    ),
    "an odd column's last gradient is left out": Mutation(
        "csrc/cpu/narrow_conv2d/plan.cpp",
        "plan.more_ = kernel / 2;",
        "plan.more_ = 0;",
        "test_narrow.py",
        "results_and_gradients",
    ),
    "the last channels of a pixel are not packed": Mutation(
        "csrc/cpu/narrow_conv2d/direct.inl",
        "if (count >= channels) {",
        "if (count > channels) {",
        "test_narrow.py",
        "results_and_gradients",
    ),
    "statistics of pixels beyond the image": Mutation(
        "csrc/cpu/narrow_conv2d/products.inl",
        "if (!inside(i)) continue;",
        "",
        "test_narrow.py",
        "statistics_are",
    ),
    "a tap of the right neighbor is left out": Mutation(
        "csrc/cpu/generator_block/generator_block.inl",
        " + ea[5 * n + c])",
        ")",
        "test_generator_block.py",
        "formulas",
    ),
    "the next tile's left difference is its own": Mutation(
        "csrc/cpu/generator_block/upsampled.inl",
        "next_left[k] = next[k] - after[k]",
        "next_left[k] = before[k] - now[k]",
        "test_generator_block.py",
        "formulas",
    ),
    "the row of tiles before an item is left out": Mutation(
        "csrc/cpu/generator_block/upsampled.inl",
        "return load(above + s * panel_size) + component(0, column, s);",
        "return t == of.begin ? component(0, column, s) : load(above + s * panel_size) + component(0, column, s);",
        "test_generator_block.py",
        "formulas",
    ),
    "rows' statistics are joined without their distance": Mutation(
        "csrc/cpu/generator_block/upsampled.inl",
        " + difference * difference * (count * added / both)",
        "",
        "test_generator_block.py",
        "formulas",
    ),
    "few channels' gradients are cut off at the wrong pixels": Mutation(
        "csrc/cpu/generator_block/narrow.inl",
        "select(cut, grad * norm.slope, grad)",
        "select(cut, grad, grad * norm.slope)",
        "test_generator_block.py",
        "formulas",
    ),
    "the batch's variance is a constant": Mutation(
        "csrc/cpu/generator_block/generator_block.inl",
        "((x[e] - mean[c]) * rstd[c]) * products[c]",
        "0 * products[c]",
        "test_generator_block.py",
        "formulas",
    ),
    "blocks' statistics are joined without their distance": Mutation(
        "csrc/cpu/channel_statistics.cpp",
        "squares[c] += part.around(mean[c])",
        "squares[c] += part.squares",
        "test_channel_statistics.py",
        "planes_of_any_size",
    ),
    "values are summed as they are": Mutation(
        CHANNELS, "shift >= -largest &&", "false &&", "test_channel_statistics.py", "far_from_zero"
    ),
    "the gradient of a variance leaves out the mean": Mutation(
        CHANNELS, "slope * (x - mean)", "slope * x", "test_channel_statistics.py", "planes"
    ),
    "a period begins with another channel": Mutation(
        "csrc/cpu/channel_statistics.inl",
        "i + width <= n; i += width",
        "i + width <= n; i += width - channels",
        "test_channel_statistics.py",
        "any_number_of_channels",
    ),
    "weights swapped": Mutation(
        "csrc/arithmetic/mixture.h", "own * x + other * y", "other * x + own * y", "test_mixing.py"
    ),
    "an excluded class counts": Mutation(
        "csrc/arithmetic/kl_divergence.h", "return p == 0 ? zero : term", "return term", "test_kl.py"
    ),
    "wrong side of KL": Mutation(
        "csrc/arithmetic/kl_divergence.h", "return grad * (q - p)", "return grad * (p - q)", "test_kl.py"
    ),
    "wrong inverse": Mutation(
        "csrc/checks.cpp", "inverse[index] = i", "inverse[i] = index", "test_mixing.py", "inverse"
    ),
    "wrong inverse of a label": Mutation(
        "csrc/cpu/interpolated.inl", "-other.mixture.other", "-own.mixture.other", "test_interpolated.py"
    ),
}


@pytest.fixture(scope="module")
def extension(tmp_path_factory):
    return Extension(copy_of_the_package(tmp_path_factory.mktemp("cpp")))


@pytest.fixture(scope="module")
def runner():
    runner = Runner()
    yield runner
    runner.close()


def assert_turns_red(runner, folder, mutation, backend):
    code, printed = runner.run(folder, [mutation.tests], mutation.only, backend)
    assert code == 1, printed
    assert "1 failed" in printed, printed


def test_without_a_defect_the_copy_passes(extension, runner):
    """Whatever a defect is to turn red."""
    whole = {m.tests for m in KERNELS.values() if not m.only}
    parts = {m for m in KERNELS.values() if m.only and m.tests not in whole}
    selected = " or ".join(sorted({f"({m.only})" for m in parts}))
    for files, only in ((whole, ""), ({m.tests for m in parts}, selected)):
        code, printed = runner.run(extension.folder, sorted(files), only, "cpp")
        assert code == 0, printed


@pytest.mark.parametrize("name", KERNELS)
def test_a_defect_in_the_cpp_kernels(name, extension, runner):
    mutation = KERNELS[name]
    mutate(extension.folder, mutation)
    try:
        extension.rebuild(mutation.file)
        assert_turns_red(runner, extension.folder, mutation, "cpp")
    finally:
        restore(extension.folder, mutation)
        if mutation.file.endswith(".cpp"):
            extension.rebuild(mutation.file)


TRITON = {
    "no mask": Mutation(
        "kernels/l1.py",
        "tl.load(student + offsets(index, sizes, student_strides), mask=inside, other=0)",
        "tl.load(student + offsets(index, sizes, student_strides))",
        "test_guards.py",
        "tail and l1 and not interpolated",
    ),
    "bits in the wrong order": Mutation(
        "kernels/_signs.py",
        "tl.where(inside & on, 1, 0) << tl.arange(0, 8)",
        "tl.where(inside & on, 1, 0) << (7 - tl.arange(0, 8))",
        "test_packed_signs.py",
        "bits",
    ),
    "a tie has a sign": Mutation("kernels/l1.py", "s <= t", "s < t", "test_l1.py"),
    "chunks' squares are counted from their own shifts": Mutation(
        "kernels/batch_norm_act.py",
        "square - off * (2 * sum - values * off)",
        "square",
        "test_batch_norm.py",
        "far_from_zero",
    ),
    "values are summed as they are": Mutation(
        "kernels/batch_norm_act.py",
        "tl.where(mean - mean == 0, mean, 0)",
        "mean * 0",
        "test_batch_norm.py",
        "far_from_zero",
    ),
    "the batch's mean is a constant": Mutation(
        "kernels/batch_norm_act.py",
        "(value - mean) * by_x + level",
        "(value - mean) * by_x",
        "test_batch_norm.py",
        "gradients_are_the_formulas",
    ),
}


@pytest.mark.parametrize("name", TRITON)
def test_a_defect_in_the_triton_kernels(name, runner, tmp_path):
    """That they pass without a defect, the tests with --backend=triton say."""
    folder = copy_of_the_package(tmp_path)
    for file in Path(backends.__file__).parent.glob("_C*.so"):
        shutil.copy(file, folder / "dfad_fast")
    mutate(folder, TRITON[name])
    assert_turns_red(runner, folder, TRITON[name], "triton")
