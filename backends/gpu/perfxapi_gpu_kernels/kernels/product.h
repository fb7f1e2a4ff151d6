/* The sizes of a product of matrices, how many tiles the result has, and the strides of rows and columns. */
typedef struct {
  int32_t rows, inner, columns, row_tiles, column_tiles, padding;
  int64_t a_row, a_column, b_row, b_column;
} Product;
