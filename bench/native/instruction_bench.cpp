// One matrix product, a few times on one thread: what bench.instructions and bench.riscv count the instructions of.
//
//   instruction_bench linear|gated_linear|vocab_topk|matmul DTYPE ROWS COLUMNS TOKENS VARIANT FORMAT CALLS
//
// Operands are constants, so that each run executes the same instructions. DTYPE is a number of PxDType; FORMAT is that
// of the activations: 0 float32, 1 int8, 2 int16. `matmul` multiplies float32 [TOKENS, COLUMNS] by [COLUMNS, ROWS].
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "perfx/host.h"

namespace {

constexpr int64_t kGeluTanh = 0; /* as the spec of the op numbers its choices */

const PxKernel* find_kernel(const std::string& variant, const std::string& op) {
  const PxLibrary* library = perfx_library();
  for (int32_t v = 0; v < library->num_variants; ++v) {
    const PxVariant& candidate = library->variants[v];
    if (variant != candidate.name || !candidate.supported()) continue;
    for (int32_t k = 0; k < candidate.num_kernels; ++k)
      if (op == candidate.kernels[k].op) return &candidate.kernels[k];
  }
  return nullptr;
}

// Operands with memory of their own, every byte 0x3f: a harmless number in every format.
class Operands {
 public:
  void add(int32_t dtype, int32_t layout, int64_t rows, int64_t columns, int64_t nbytes) {
    void* data = std::aligned_alloc(64, size_t(nbytes + 127) / 64 * 64);
    if (data == nullptr) std::abort();
    std::memset(data, 0x3f, size_t(nbytes));
    tensors_.push_back({data, dtype, layout, 2, PX_CONTIGUOUS, {rows, columns}, {columns * 4, 4}});
  }
  void add_floats(int64_t rows, int64_t columns) { add(PX_FLOAT32, PX_STRIDED, rows, columns, rows * columns * 4); }
  const std::vector<PxTensor>& tensors() const { return tensors_; }

 private:
  std::vector<PxTensor> tensors_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 9) return 2;
  const std::string op = argv[1];
  const int32_t dtype = std::atoi(argv[2]);
  const int64_t rows = std::atoll(argv[3]), columns = std::atoll(argv[4]), tokens = std::atoll(argv[5]);
  const PxKernel* kernel = find_kernel(argv[6], op);
  if (kernel == nullptr) {
    std::fprintf(stderr, "no kernel for %s in the variant %s on this machine\n", argv[1], argv[6]);
    return 3;
  }

  const int64_t format = std::atoll(argv[7]);
  Operands operands;
  const int32_t layout = perfx_packed_layout(dtype, rows, columns);
  const int64_t packed = perfx_packed_bytes(dtype, layout, rows, columns);
  const int32_t num_weights = op == "gated_linear" ? 2 : 1;
  operands.add_floats(tokens, columns);
  if (op == "matmul") {
    operands.add_floats(columns, rows);
  } else {
    for (int32_t i = 0; i < num_weights; ++i) operands.add(dtype, layout, rows, columns, packed);
  }
  std::vector<PxAttr> attributes(3);
  if (op == "vocab_topk") {
    operands.add_floats(tokens, 1);
    operands.add(PX_INT32, PX_STRIDED, tokens, 1, tokens * 4);
    attributes[0].i = 1;
    attributes[1].i = format;
    attributes[2].f = 0.0;
  } else {
    operands.add_floats(tokens, rows);
    attributes[0].i = format;
    attributes[1].i = kGeluTanh;
  }
  const int32_t num_attributes = op == "vocab_topk" ? 3 : op == "gated_linear" ? 2 : op == "matmul" ? 0 : 1;
  const std::vector<PxTensor>& tensors = operands.tensors();
  PxCall call = {1 + num_weights, int32_t(tensors.size()), num_attributes, 0,
                 tensors.data(),  attributes.data(),       nullptr,        0};
  if (kernel->accepts(&call) != PX_OK) return 4;
  call.workspace_bytes = kernel->workspace == nullptr ? 0 : kernel->workspace(&call, 1);
  call.workspace = std::aligned_alloc(64, size_t(call.workspace_bytes + 127) / 64 * 64);
  PxPool* pool = perfx_pool_create(1, nullptr, 0);
  for (int i = std::atoi(argv[8]); i > 0; --i)
    if (perfx_pool_run(pool, kernel->run, &call) != PX_OK) return 5;
  perfx_pool_destroy(pool);
  return 0;
}
