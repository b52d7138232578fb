// What each instruction does for one thread.
#pragma once

#include "machine.h"
#include "program.h"

namespace ptx {

#define PTX_INSTRUCTION(name) void name(Thread& thread, const Instruction& instruction)

// arithmetic.cpp
PTX_INSTRUCTION(add);
PTX_INSTRUCTION(subtract);
PTX_INSTRUCTION(multiply);
PTX_INSTRUCTION(multiply_wide);
PTX_INSTRUCTION(multiply_high);
PTX_INSTRUCTION(multiply_add);
PTX_INSTRUCTION(multiply_add_wide);
PTX_INSTRUCTION(fused_multiply_add);
PTX_INSTRUCTION(divide);
PTX_INSTRUCTION(remainder);
PTX_INSTRUCTION(minimum);
PTX_INSTRUCTION(maximum);

// unary.cpp
PTX_INSTRUCTION(absolute);
PTX_INSTRUCTION(negate);
PTX_INSTRUCTION(square_root);
PTX_INSTRUCTION(reciprocal);
PTX_INSTRUCTION(approximate_reciprocal);
PTX_INSTRUCTION(exponential);
PTX_INSTRUCTION(logarithm);

// bits.cpp
PTX_INSTRUCTION(bits_and);
PTX_INSTRUCTION(bits_or);
PTX_INSTRUCTION(bits_xor);
PTX_INSTRUCTION(bits_not);
PTX_INSTRUCTION(shift_left);
PTX_INSTRUCTION(shift_right);
PTX_INSTRUCTION(extract_bits);
PTX_INSTRUCTION(insert_bits);
PTX_INSTRUCTION(permute_bytes);

// conversion.cpp
PTX_INSTRUCTION(convert);

// comparison.cpp
PTX_INSTRUCTION(set_predicate);
PTX_INSTRUCTION(select);

// moves.cpp
PTX_INSTRUCTION(move);
PTX_INSTRUCTION(load_registers);
PTX_INSTRUCTION(store_registers);

// atomics.cpp
PTX_INSTRUCTION(increment_wrapping);
PTX_INSTRUCTION(atomic_maximum);
PTX_INSTRUCTION(fence);

#undef PTX_INSTRUCTION

// A float32 operand and result, with the instruction's .ftz and .sat.
float read_float(const Thread& thread, const Instruction& instruction, std::size_t source);
void write_float(Thread& thread, const Instruction& instruction, float value);

}  // namespace ptx
