# BPF programs: compiled by clang, carried in the binary, loaded by libbpf. Without clang or libbpf what needs them is
# left out: MAPCAP_BPF_MISSING says which.
find_program(MAPCAP_BPF_CLANG NAMES clang clang-19 clang-16 clang-14 DOC "Compiler for BPF programs")
pkg_check_modules(LIBBPF IMPORTED_TARGET GLOBAL "libbpf >= 1.0")
set(MAPCAP_BPF_MISSING "")
if(NOT MAPCAP_BPF_CLANG)
  set(MAPCAP_BPF_MISSING "clang")
elseif(NOT LIBBPF_FOUND)
  set(MAPCAP_BPF_MISSING "libbpf")
endif()

# mapcap_bpf(SOURCES-VARIABLE PROGRAM.bpf.c HEADER NAMESPACE): a C++ source that defines NAMESPACE::object(), which
# HEADER declares, with the compiled program.
function(mapcap_bpf variable program header namespace)
  get_filename_component(name ${program} NAME_WE)
  set(object ${CMAKE_CURRENT_BINARY_DIR}/${name}.bpf.o)
  set(embedded ${CMAKE_CURRENT_BINARY_DIR}/${name}_object.cpp)
  # The kernel's headers for BPF programs live where the host's compiler finds its own asm/.
  # -mcpu=v2 is what every kernel since 4.14 verifies; -g makes the BTF that relocation needs.
  add_custom_command(
    OUTPUT ${object}
    COMMAND ${MAPCAP_BPF_CLANG} -target bpf -mcpu=v2 -O2 -g -Wall -Wextra -Werror
            -fdebug-prefix-map=${PROJECT_SOURCE_DIR}=. -fdebug-compilation-dir=.
            -idirafter /usr/include/${CMAKE_LIBRARY_ARCHITECTURE} -c ${CMAKE_CURRENT_SOURCE_DIR}/${program} -o ${object}
    DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${program}
    COMMENT "Compiling ${program}"
    VERBATIM)
  set(embed ${PROJECT_SOURCE_DIR}/cmake/embed.cmake)
  add_custom_command(
    OUTPUT ${embedded}
    COMMAND ${CMAKE_COMMAND} -DFROM=${object} -DTO=${embedded} -DHEADER=${header} -DNAMESPACE=${namespace} -P ${embed}
    DEPENDS ${object} ${embed}
    VERBATIM)
  set(${variable} ${embedded} PARENT_SCOPE)
endfunction()
