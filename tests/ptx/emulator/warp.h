// A warp: its lanes run one after another in a random order, and meet at what they do together.
#pragma once

namespace ptx {

// Until each of its lanes waits at a barrier of the block or has ended.
void run_warp(unsigned warp);

}  // namespace ptx
