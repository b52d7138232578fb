// Everything that a tier compiles for its instruction set, inside its namespace.

#include "convert.inl"
#include "lanes.inl"
#include "panels.inl"
#include "tile.inl"

#include "generator_block.inl"
#include "hinge.inl"
#include "interpolated.inl"
#include "kl.inl"
#include "l1.inl"
#include "mixing.inl"
#include "narrow.inl"
#include "upsampled.inl"
#include "winograd.inl"

#include "table.inl"
