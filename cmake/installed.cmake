# Files that name where they are installed are written by the installation: `cmake --install BUILD --prefix P` may have
# another prefix than the build was configured for.

# Code for install(CODE): sets MAPCAP_INSTALLED_SBINDIR, _LIBDIR, _INCLUDEDIR and _SYSCONFDIR below the prefix of this
# installation, without DESTDIR. Of a system's own prefix, /usr, the configuration is in /etc (GNU's convention).
set(MAPCAP_INSTALLED_PATHS "")
foreach(kind SBINDIR LIBDIR INCLUDEDIR SYSCONFDIR)
  string(APPEND MAPCAP_INSTALLED_PATHS "
  set(MAPCAP_INSTALLED_${kind} \"${CMAKE_INSTALL_${kind}}\")
  if(\"${kind};\${CMAKE_INSTALL_PREFIX};${CMAKE_INSTALL_${kind}}\" STREQUAL \"SYSCONFDIR;/usr;etc\")
    set(MAPCAP_INSTALLED_${kind} /etc)
  elseif(NOT IS_ABSOLUTE \"\${MAPCAP_INSTALLED_${kind}}\")
    string(PREPEND MAPCAP_INSTALLED_${kind} \"\${CMAKE_INSTALL_PREFIX}/\")
  endif()")
endforeach()

# mapcap_install_configured(TEMPLATE DESTINATION COMPONENT): configures the template at installation; a relative destination
# is below the prefix.
function(mapcap_install_configured template destination component)
  install(CODE "${MAPCAP_INSTALLED_PATHS}
  set(PROJECT_DESCRIPTION \"${PROJECT_DESCRIPTION}\")
  set(PROJECT_VERSION \"${PROJECT_VERSION}\")
  set(written \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${destination}\")
  message(STATUS \"Installing: \${written}\")
  configure_file(\"${CMAKE_CURRENT_SOURCE_DIR}/${template}\" \"\${written}\" @ONLY)" COMPONENT ${component})
endfunction()
