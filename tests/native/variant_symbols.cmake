# Fails when an object file of one instruction set defines a mergeable symbol outside of its variant's namespace: the
# linker may then take that copy for everybody, and it fails on processors without the instruction set.
#
#   cmake -DNM=nm -DOBJECTS=a.o,b.o -P variant_symbols.cmake
string(REPLACE "," ";" objects "${OBJECTS}")
set(checked 0)
foreach(object ${objects})
  if(NOT object MATCHES "_(avx2|avx512|avx512vnni|neon|dotprod|i8mm|rvv[0-9]+)[.](cpp|dir)")
    continue()
  endif()
  set(variant "${CMAKE_MATCH_1}")
  execute_process(COMMAND "${NM}" --demangle --defined-only "${object}" OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
  string(REPLACE ";" "," symbols "${symbols}")
  string(REPLACE "\n" ";" symbols "${symbols}")
  foreach(symbol ${symbols})
    # An older nm leaves some names as they are.
    if(symbol MATCHES " [WVu] " AND NOT symbol MATCHES "perfx::${variant}::|N5perfx[0-9]+${variant}|DW\\.ref\\.")
      message(SEND_ERROR "${object}: ${symbol}")
    endif()
  endforeach()
  math(EXPR checked "${checked} + 1")
endforeach()
message(STATUS "${checked} object files checked")
