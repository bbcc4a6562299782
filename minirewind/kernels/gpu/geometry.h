// Where the taps of a convolution look.
//
// Output pixel `place` sees, through tap `tap` of the filter, the pixel at
//
//     position = place * step + tap * turn + start
//
// of a picture in which the given pixels stand `gap` apart, with zeros between and around them. That is one formula
// for a convolution (step = stride, turn = 1, start = -padding, gap = 1) and for its input gradient, in which pixel
// and tap are known and the output pixel that saw them is sought (step = 1, turn = -1, start = padding, gap = stride).

#pragma once

struct Geometry {
  int height, width, channels;                    // of the images that are read: [image][height][width][channels]
  int out_height, out_width, out_channels;        // of those that are written
  int rows, columns;                              // of the filters
  int step_y, step_x, turn, start_y, start_x, gap_y, gap_x;
};

// The row or column that is seen, or -1 where nothing but zeros lies there.
__device__ __forceinline__ int look(int place, int tap, int step, int turn, int start, int gap, int size) {
  int position = place * step + tap * turn + start;
  if (position < 0) return -1;
  if (gap > 1) {
    if (position % gap) return -1;
    position /= gap;
  }
  return position < size ? position : -1;
}
