# What the backends of processors build alike: the library `_native.so` of a variant for each instruction set, the pool,
# the command list and the packer of the core, and the core's native tests.
#
#   find_path(PERFX_INCLUDE_DIR perfx/abi.h ...)
#   include("${PERFX_INCLUDE_DIR}/perfx/host/backend.cmake")
#   perfx_carry_headers()
#   add_library(kernels OBJECT ...)
#   perfx_kernels(kernels)
#   perfx_backend(perfxapi_backend_name kernels ...)
#
# Options
#   PERFX_SANITIZE     "", "address,undefined" or "thread"
#   PERFX_TESTS        build the native tests, which only the checkout has
#   PERFX_EXCLUDED_TESTS  a regular expression of names of native tests that are left out
set(PERFX_SANITIZE "" CACHE STRING "Sanitizers to build with")
option(PERFX_TESTS "Build the native tests" OFF)
if(PERFX_TESTS)
  enable_testing()
endif()
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_CXX_FLAGS_RELEASE "-O3")

# An sdist carries a copy of the core's headers, for it may be built where the checkout is not.
macro(perfx_carry_headers)
  if(SKBUILD_STATE STREQUAL "sdist")
    set(carried "${CMAKE_CURRENT_SOURCE_DIR}/include")
    if(NOT PERFX_INCLUDE_DIR STREQUAL carried)
      file(REMOVE_RECURSE "${carried}")
      file(COPY "${PERFX_INCLUDE_DIR}/perfx" DESTINATION "${carried}")
    endif()
    return()
  endif()
endmacro()

# The flags of sources that hold kernels.
function(perfx_kernels target)
  find_package(Threads REQUIRED)
  target_include_directories(${target} PUBLIC "${PERFX_INCLUDE_DIR}" csrc)
  # Contraction is off: which products are fused is written in the kernels, so that every compiler computes the same bits.
  target_compile_options(${target} PUBLIC -ffp-contract=off -fno-math-errno -fvisibility=hidden
                         -fvisibility-inlines-hidden -fomit-frame-pointer -Wall -Wextra -Wno-psabi
                         # GCC's own AVX-512 intrinsics begin with "undefined" registers and are warned about.
                         $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized -Wno-uninitialized>
                         # GCC 12's analysis of what a function modifies drops calls of tile kernels whose only result is
                         # what they write through a pointer: the product of Q2_K with one token became zero.
                         $<$<AND:$<CXX_COMPILER_ID:GNU>,$<VERSION_GREATER_EQUAL:$<CXX_COMPILER_VERSION>,11>>:-fno-ipa-modref>)
  target_link_libraries(${target} PUBLIC Threads::Threads)
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON)
  if(PERFX_SANITIZE)
    target_compile_options(${target} PUBLIC -fsanitize=${PERFX_SANITIZE} -fno-sanitize-recover=all -g
                           -fno-omit-frame-pointer)
    target_link_options(${target} PUBLIC -fsanitize=${PERFX_SANITIZE})
  endif()
endfunction()

# A program for each native test of the core, linked with these kernels.
function(perfx_native_tests)
  set(folder "${PERFX_INCLUDE_DIR}/../../tests/native")
  file(GLOB tests CONFIGURE_DEPENDS "${folder}/test_*.cpp")
  if(PERFX_EXCLUDED_TESTS)
    list(FILTER tests EXCLUDE REGEX "/test_[^/]*(${PERFX_EXCLUDED_TESTS})[^/]*$")
  endif()
  set(objects "")
  foreach(part ${ARGN})
    list(APPEND objects $<TARGET_OBJECTS:${part}>)
  endforeach()
  foreach(test ${tests})
    get_filename_component(stem "${test}" NAME_WE)
    add_executable(${stem} "${test}")
    target_link_libraries(${stem} PRIVATE ${ARGN})
    add_test(NAME ${stem} COMMAND ${CMAKE_CROSSCOMPILING_EMULATOR} $<TARGET_FILE:${stem}>)
  endforeach()
  if(CMAKE_NM AND NOT PERFX_SANITIZE)
    add_test(NAME variant_symbols
             COMMAND ${CMAKE_COMMAND} -DNM=${CMAKE_NM} "-DOBJECTS=$<JOIN:${objects},$<COMMA>>"
                     -P "${folder}/variant_symbols.cmake")
  endif()
endfunction()

# `_native.so` of a package, from object libraries that perfx_kernels() was called for.
function(perfx_backend package)
  add_library(perfx_host OBJECT "${PERFX_INCLUDE_DIR}/perfx/host/host.cpp"
              "${PERFX_INCLUDE_DIR}/perfx/host/packing.cpp")
  perfx_kernels(perfx_host)
  add_library(perfx_native MODULE)
  target_link_libraries(perfx_native PRIVATE perfx_host ${ARGN})
  set(exports "${PERFX_INCLUDE_DIR}/perfx/host/exports.map")
  set_target_properties(perfx_native PROPERTIES OUTPUT_NAME _native PREFIX "" SUFFIX ".so" LINK_DEPENDS "${exports}")
  target_link_options(perfx_native PRIVATE -static-libstdc++ -static-libgcc -Wl,--as-needed
                      "-Wl,--version-script=${exports}")
  install(TARGETS perfx_native LIBRARY DESTINATION ${package} COMPONENT native)
  if(PERFX_TESTS)
    perfx_native_tests(perfx_host ${ARGN})
  endif()
endfunction()
