# mapcap_precompile(): every target below the calling folder reads the standard library, Boost.Outcome and GoogleTest
# from one precompiled header, or from its twin for executables, whose code is -fPIE. For the sanitizers' builds, whose
# time counts. The dev preset compiles without, so that no file can do without an #include of its own.
set(MAPCAP_PRECOMPILED
  <algorithm> <array> <atomic> <cerrno> <chrono> <coroutine> <cstdint> <cstdio> <cstdlib> <cstring> <filesystem> <fstream>
  <functional> <map> <memory> <optional> <set> <span> <string> <string_view> <thread> <unordered_map> <utility> <variant>
  <vector> <boost/outcome/basic_result.hpp> <boost/outcome/policy/terminate.hpp> <boost/outcome/try.hpp>)

function(mapcap_targets_below folder result)
  get_property(targets DIRECTORY ${folder} PROPERTY BUILDSYSTEM_TARGETS)
  get_property(below DIRECTORY ${folder} PROPERTY SUBDIRECTORIES)
  foreach(each ${below})
    mapcap_targets_below(${each} more)
    list(APPEND targets ${more})
  endforeach()
  set(${result} ${targets} PARENT_SCOPE)
endfunction()

function(mapcap_precompile)
  mapcap_targets_below(${CMAKE_CURRENT_SOURCE_DIR} targets)
  set(source ${CMAKE_CURRENT_BINARY_DIR}/precompiled.cpp)
  file(GENERATE OUTPUT ${source} CONTENT "int main() {}\n")
  add_library(mapcap_precompiled_library STATIC ${source})
  add_executable(mapcap_precompiled_executable ${source})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # ccache asks for the first. The others: warnings of a precompiled header of g++'s own do not pass for that, and
    # what optimisation makes of std::string gives false ones.
    target_compile_options(mapcap_options INTERFACE -fpch-preprocess -Wno-array-bounds -Wno-stringop-overflow
                           -Wno-stringop-overread -Wno-restrict)
  endif()
  foreach(target mapcap_precompiled_library mapcap_precompiled_executable)
    target_link_libraries(${target} PRIVATE mapcap_options)
    target_precompile_headers(${target} PRIVATE ${MAPCAP_PRECOMPILED})
  endforeach()
  if(TARGET GTest::gmock)
    target_link_libraries(mapcap_precompiled_executable PRIVATE GTest::gmock)
    target_precompile_headers(mapcap_precompiled_executable PRIVATE <gtest/gtest.h> <gmock/gmock.h>)
  endif()
  foreach(target ${targets})
    get_target_property(type ${target} TYPE)
    get_target_property(without ${target} DISABLE_PRECOMPILE_HEADERS)
    get_target_property(visibility ${target} CXX_VISIBILITY_PRESET)
    if(without)
      # Of another language, or another standard, or compiled with other options than the header.
    elseif(visibility AND CMAKE_CXX_COMPILER_ID MATCHES "Clang")
      # Which takes no header of another visibility.
    elseif(type STREQUAL EXECUTABLE)
      target_precompile_headers(${target} REUSE_FROM mapcap_precompiled_executable)
    elseif(type MATCHES "_LIBRARY$" AND NOT type STREQUAL INTERFACE_LIBRARY)
      target_precompile_headers(${target} REUSE_FROM mapcap_precompiled_library)
    endif()
  endforeach()
endfunction()
