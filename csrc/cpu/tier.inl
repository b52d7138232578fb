// Everything that a tier compiles for its instruction set, inside its namespace.

#include "convert.inl"
#include "lanes.inl"
#include "panels.inl"
#include "tile.inl"

#include "boundary_hinge.inl"
#include "channel_statistics.inl"
#include "batch_norm_act/batch_norm_act.inl"
#include "generator_block/generator_block.inl"
#include "generator_block/narrow.inl"
#include "generator_block/upsampled.inl"
#include "interpolated.inl"
#include "kl.inl"
#include "l1.inl"
#include "mixing.inl"
#include "narrow_conv2d/products.inl"
#include "narrow_conv2d/direct.inl"
#include "winograd/transforms.inl"
#include "winograd/winograd.inl"
#include "narrow_conv2d/tiles.inl"

#include "table.inl"
