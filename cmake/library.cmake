# One library a room, and nobody sees the headers of a room that he does not link.

# mapcap_expose(TARGET SCOPE HEADER...): an include directory of links to these headers (paths below the source tree, by
# which they are included), for TARGET and, with SCOPE PUBLIC or INTERFACE, for whoever links it. The source tree itself is
# nobody's include directory: a header of a room that is not linked is not found. Without MAPCAP_LAYERED it is.
function(mapcap_expose target scope)
  if(NOT MAPCAP_LAYERED)
    return()
  endif()
  set(root ${PROJECT_BINARY_DIR}/exposed/${target})
  file(REMOVE_RECURSE ${root})
  foreach(header ${ARGN})
    get_filename_component(folder ${root}/${header} DIRECTORY)
    file(MAKE_DIRECTORY ${folder})
    file(CREATE_LINK ${PROJECT_SOURCE_DIR}/${header} ${root}/${header} SYMBOLIC)
  endforeach()
  file(MAKE_DIRECTORY ${root})
  target_include_directories(${target} ${scope} ${root})
endfunction()

# mapcap_headers(VARIABLE FOLDER...): the headers that lie in these folders of the calling one.
function(mapcap_headers variable)
  set(patterns ${ARGN})
  list(TRANSFORM patterns REPLACE "(.+)" "${CMAKE_CURRENT_SOURCE_DIR}/\\1/*.h")
  file(GLOB found RELATIVE ${PROJECT_SOURCE_DIR} CONFIGURE_DEPENDS ${patterns})
  set(${variable} ${found} PARENT_SCOPE)
endfunction()

# mapcap_library(NAME SOURCES... LINK libraries... PRIVATE_LINK libraries...): exposes the headers beside its sources. LINK
# says what its headers and sources include and call; tests/layering looks whether that is true.
function(mapcap_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK;PRIVATE_LINK" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC mapcap_options ${ARG_LINK} PRIVATE ${ARG_PRIVATE_LINK})
  set(folders .)
  foreach(source ${ARG_SOURCES})
    if(source MATCHES "^([a-z][^$]*)/[^/]+$")
      list(APPEND folders ${CMAKE_MATCH_1})
    endif()
  endforeach()
  list(REMOVE_DUPLICATES folders)
  mapcap_headers(headers ${folders})
  mapcap_expose(${name} PUBLIC ${headers})
  set_property(GLOBAL APPEND PROPERTY MAPCAP_LIBRARIES ${name})
endfunction()
