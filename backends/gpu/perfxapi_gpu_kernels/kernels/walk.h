/* Walks over operands of one shape that lie in memory by strides of their own.
 *
 * Axis 0 is the innermost: work-items stand side by side on it. The axes from 1 on make rows. */

#define MAX_NDIM 6
#ifndef MAX_WALKED
#define MAX_WALKED 4
#endif

/* Strides in elements; those of axes that an operand is repeated along are 0. */
typedef struct {
  int64_t strides[MAX_WALKED][MAX_NDIM];
  int32_t sizes[MAX_NDIM];
  int32_t ndim, padding;
} Walk;

/* Where element `index` of an operand is, counted over the axes from `axis` on. */
DEVICE int64_t place_of(const Walk* walk, int operand, int axis, int index) {
  int64_t place = 0;
  for (; axis < walk->ndim - 1; axis++) {
    place += index % walk->sizes[axis] * walk->strides[operand][axis];
    index /= walk->sizes[axis];
  }
  return axis < walk->ndim ? place + index * walk->strides[operand][axis] : place;
}

/* Where row `row` of an operand begins. */
DEVICE int64_t row_start(const Walk* walk, int operand, int row) { return place_of(walk, operand, 1, row); }

/* How far one element of a row is from the next: a stride that the program was made for, or (-1) that of the walk. */
#define STEP(fixed, operand) ((fixed) >= 0 ? (fixed) : walk.strides[operand][0])
