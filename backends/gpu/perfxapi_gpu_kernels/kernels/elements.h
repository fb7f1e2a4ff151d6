/* Elements of every plain dtype: how they lie in memory, and as numbers to compute with.
 *
 * A dtype is a bare word, often a define: float32, int8, bool ..., or copy1, copy2 ... copy16, which stand for so many
 * bytes that are only moved. COMPUTE is the dtype that numbers are computed in (float32, float64, int32, int64, uint32
 * or uint64); LOAD gives one, STORE rounds it to what memory holds. */

typedef struct {
  uint64_t low, high;
} Wide;

#define STORAGE_bool uchar
#define STORAGE_int8 int8_t
#define STORAGE_int16 int16_t
#define STORAGE_int32 int32_t
#define STORAGE_int64 int64_t
#define STORAGE_uint8 uint8_t
#define STORAGE_uint16 uint16_t
#define STORAGE_uint32 uint32_t
#define STORAGE_uint64 uint64_t
#define STORAGE_float64 double
#define STORAGE_copy1 uint8_t
#define STORAGE_copy2 uint16_t
#define STORAGE_copy4 uint32_t
#define STORAGE_copy8 uint64_t
#define STORAGE_copy16 Wide

#define LOAD_bool(pointer, index) ((pointer)[index])
#define LOAD_int8(pointer, index) ((pointer)[index])
#define LOAD_int16(pointer, index) ((pointer)[index])
#define LOAD_int32(pointer, index) ((pointer)[index])
#define LOAD_int64(pointer, index) ((pointer)[index])
#define LOAD_uint8(pointer, index) ((pointer)[index])
#define LOAD_uint16(pointer, index) ((pointer)[index])
#define LOAD_uint32(pointer, index) ((pointer)[index])
#define LOAD_uint64(pointer, index) ((pointer)[index])
#define LOAD_float64(pointer, index) ((pointer)[index])
#define LOAD_copy1(pointer, index) ((pointer)[index])
#define LOAD_copy2(pointer, index) ((pointer)[index])
#define LOAD_copy4(pointer, index) ((pointer)[index])
#define LOAD_copy8(pointer, index) ((pointer)[index])
#define LOAD_copy16(pointer, index) ((pointer)[index])

/* Values may be doubles here, or whole numbers. */
#undef STORE_float32
#undef STORE_float16
#define STORE_bool(value, pointer, index) ((pointer)[index] = (uchar)((value) != 0))
#define STORE_int8(value, pointer, index) ((pointer)[index] = (int8_t)(value))
#define STORE_int16(value, pointer, index) ((pointer)[index] = (int16_t)(value))
#define STORE_int32(value, pointer, index) ((pointer)[index] = (int32_t)(value))
#define STORE_int64(value, pointer, index) ((pointer)[index] = (int64_t)(value))
#define STORE_uint8(value, pointer, index) ((pointer)[index] = (uint8_t)(value))
#define STORE_uint16(value, pointer, index) ((pointer)[index] = (uint16_t)(value))
#define STORE_uint32(value, pointer, index) ((pointer)[index] = (uint32_t)(value))
#define STORE_uint64(value, pointer, index) ((pointer)[index] = (uint64_t)(value))
#define STORE_float32(value, pointer, index) ((pointer)[index] = (float)(value))
#define STORE_float64(value, pointer, index) ((pointer)[index] = (double)(value))
#define STORE_float16(value, pointer, index) STORE_HALF(NARROWED(value), pointer, index)
#define STORE_bfloat16(value, pointer, index) ((pointer)[index] = float_to_bfloat16(NARROWED(value)))
#define STORE_copy1(value, pointer, index) ((pointer)[index] = (value))
#define STORE_copy2(value, pointer, index) ((pointer)[index] = (value))
#define STORE_copy4(value, pointer, index) ((pointer)[index] = (value))
#define STORE_copy8(value, pointer, index) ((pointer)[index] = (value))
#define STORE_copy16(value, pointer, index) ((pointer)[index] = (value))

/* The C type of numbers of a dtype that is computed in, and what is known of it. */
#define VALUE(dtype) PERFX_JOIN(VALUE_, dtype)
#define VALUE_float32 float
#define VALUE_float64 double
#define VALUE_int32 int32_t
#define VALUE_int64 int64_t
#define VALUE_uint32 uint32_t
#define VALUE_uint64 uint64_t
#define VALUE_copy1 uint8_t
#define VALUE_copy2 uint16_t
#define VALUE_copy4 uint32_t
#define VALUE_copy8 uint64_t
#define VALUE_copy16 Wide

#define IS_REAL PERFX_JOIN(IS_REAL_, COMPUTE)
#define IS_REAL_float32 1
#define IS_REAL_float64 1
#define IS_REAL_int32 0
#define IS_REAL_int64 0
#define IS_REAL_uint32 0
#define IS_REAL_uint64 0
#define IS_WIDE PERFX_JOIN(IS_WIDE_, COMPUTE)
#define IS_WIDE_float32 0
#define IS_WIDE_float64 1
#define IS_WIDE_int32 0
#define IS_WIDE_int64 1
#define IS_WIDE_uint32 0
#define IS_WIDE_uint64 1
#define IS_COPY PERFX_JOIN(IS_COPY_, COMPUTE)
#define IS_COPY_float32 0
#define IS_COPY_float64 0
#define IS_COPY_int32 0
#define IS_COPY_int64 0
#define IS_COPY_uint32 0
#define IS_COPY_uint64 0
#define IS_COPY_copy1 1
#define IS_COPY_copy2 1
#define IS_COPY_copy4 1
#define IS_COPY_copy8 1
#define IS_COPY_copy16 1

typedef VALUE(COMPUTE) number;
#if IS_COPY
#define AS_NUMBER(value) (value)
#else
#define AS_NUMBER(value) ((number)(value))
#endif

#if !IS_COPY && IS_REAL && IS_WIDE
/* A double as a float whose last bit says whether it was exact: rounding that to 16 bits is rounding once. */
DEVICE float rounded_to_odd(double value) {
  float nearest = (float)value;
  if (!((double)nearest != value) || isinf(nearest)) return nearest;
  uint32_t bits = AS_UINT(nearest);
  if (fabs((double)nearest) > fabs(value)) bits--;
  return AS_FLOAT(bits | 1u);
}
#define NARROWED(value) rounded_to_odd(value)
#else
#define NARROWED(value) ((float)(value))
#endif

DEVICE uint16_t float_to_bfloat16(float value) {
  uint32_t bits = AS_UINT(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40u);
  return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
