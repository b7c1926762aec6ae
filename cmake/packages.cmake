# Debian packages, of a build whose prefix is /usr:
#     cmake --preset debian && cmake --build --preset debian && cpack --preset debian
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_CONTACT "the mapcap maintainers")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
set(CPACK_PACKAGE_DIRECTORY ${PROJECT_BINARY_DIR}/packages)
set(CPACK_STRIP_FILES ON)
# Files that name where they are installed are written by the installation, which must not see the staging directory.
set(CPACK_SET_DESTDIR ON)
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_COMPONENTS_ALL service library development python)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(version ${PROJECT_VERSION})

set(CPACK_DEBIAN_SERVICE_PACKAGE_NAME mapcap)
set(CPACK_DEBIAN_SERVICE_PACKAGE_SECTION admin)
set(CPACK_COMPONENT_SERVICE_DESCRIPTION "the broker, its command line tool, and its library to preload")
file(WRITE ${PROJECT_BINARY_DIR}/packages/conffiles "/etc/mapcap/policy.toml\n")
set(CPACK_DEBIAN_SERVICE_PACKAGE_CONTROL_EXTRA ${PROJECT_BINARY_DIR}/packages/conffiles)

set(CPACK_DEBIAN_LIBRARY_PACKAGE_NAME libmapcap${PROJECT_VERSION_MAJOR})
set(CPACK_DEBIAN_LIBRARY_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_LIBRARY_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_COMPONENT_LIBRARY_DESCRIPTION "the library, for C and C++")

set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_NAME libmapcap-dev)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SECTION libdevel)
# The .pc file names libpmem2, for those who link statically.
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS "libmapcap${PROJECT_VERSION_MAJOR} (= ${version}), libpmem2-dev")
set(CPACK_COMPONENT_DEVELOPMENT_DESCRIPTION "headers, and what finds them; the protocol's schema")

set(CPACK_DEBIAN_PYTHON_PACKAGE_NAME python3-mapcap)
set(CPACK_DEBIAN_PYTHON_PACKAGE_SECTION python)
set(CPACK_DEBIAN_PYTHON_PACKAGE_ARCHITECTURE all)
set(CPACK_DEBIAN_PYTHON_PACKAGE_SHLIBDEPS OFF)
set(CPACK_DEBIAN_PYTHON_PACKAGE_DEPENDS "python3 (>= 3.11), libmapcap${PROJECT_VERSION_MAJOR} (>= ${version})")
set(CPACK_DEBIAN_PYTHON_PACKAGE_CONTROL_EXTRA ${PROJECT_SOURCE_DIR}/client/python/debian/postinst
                                              ${PROJECT_SOURCE_DIR}/client/python/debian/prerm)
set(CPACK_COMPONENT_PYTHON_DESCRIPTION "the Python package")
include(CPack)
