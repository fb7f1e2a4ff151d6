// The instruction sets that were found on this machine, best first. PERFX_EXPECTED_VARIANTS, where it is set, says
// which they must be: under emulation nothing is left out because detection failed.
#include "check.hpp"

int main() {
  const PxLibrary* library = perfx_library();
  std::string found;
  for (int32_t v = 0; v < library->num_variants; ++v) {
    if (library->variants[v].supported()) found += (found.empty() ? "" : " ") + std::string(library->variants[v].name);
  }
  std::printf("%s\n", found.c_str());
  const char* expected = std::getenv("PERFX_EXPECTED_VARIANTS");
  CHECK(expected == nullptr || found == expected);
  return 0;
}
