/* Packs a floating-point weight [rows, columns] of any strides, in tiles of LANES rows: a work-item a word. ELEMENT is
 * the element's bits as a whole number. */

KERNEL_OF(LANES, 1, 1)
pack_floats(CONST_OPERAND(ELEMENT, weight), OPERAND(uint32_t, packed), int rows, int columns, int words,
            int64_t row_stride, int64_t column_stride) {
  OPEN_CONST(ELEMENT, weight);
  OPEN(uint32_t, packed);
  const int elements = 4 / (int)sizeof(ELEMENT);
  int lane = LOCAL_ID(0), word = GROUP_ID(0);
  int64_t tile = GROUP_ID(1), row = tile * LANES + lane;
  uint32_t bits = 0;
  for (int i = 0; i < elements; i++) {
    int column = word * elements + i;
    if (row < rows && column < columns) bits |= (uint32_t)weight[row * row_stride + column * column_stride] << (16 * i);
  }
  packed[(tile * words + word) * LANES + lane] = bits;
}
