# SPDX-License-Identifier: Apache-2.0
# What programs written for Mooncake need. causeway_setup: what its variables and files mean, linked into each of them.

# The few pure functions of src/wire that it uses, for programs that link the shared library, which does not export them. An archive: what
# is linked already is not taken twice.
add_library(causeway_wire STATIC "${PROJECT_SOURCE_DIR}/src/wire/json.c" "${PROJECT_SOURCE_DIR}/src/wire/json_scan.c"
	"${PROJECT_SOURCE_DIR}/src/wire/address.c")
target_include_directories(causeway_wire PUBLIC "${PROJECT_SOURCE_DIR}/include" "${PROJECT_SOURCE_DIR}/src")
target_link_libraries(causeway_wire PUBLIC json_c)
set_target_properties(causeway_wire PROPERTIES POSITION_INDEPENDENT_CODE ON C_VISIBILITY_PRESET hidden)

set(setup_folder "${PROJECT_SOURCE_DIR}/compat/mooncake")
add_library(causeway_setup OBJECT "${setup_folder}/setup.c" "${setup_folder}/environment.c" "${setup_folder}/file.c"
	"${setup_folder}/identity.c" "${setup_folder}/protocol.c")
target_include_directories(causeway_setup PUBLIC "${PROJECT_SOURCE_DIR}/include" "${PROJECT_SOURCE_DIR}/src" "${PROJECT_SOURCE_DIR}/compat")
target_link_libraries(causeway_setup PUBLIC causeway_wire Threads::Threads m)
set_target_properties(causeway_setup PROPERTIES POSITION_INDEPENDENT_CODE ON C_VISIBILITY_PRESET hidden)

# libtransfer_engine.so: the classic C interface and TENT's. It needs libcauseway.so, which lies beside it in the build tree and where both
# are installed, so it looks there first ($ORIGIN). Never unloaded: it may have a thread and, where asked for, signal handlers.
file(GLOB cabi_sources CONFIGURE_DEPENDS "${setup_folder}/cabi/*.c")
set(cabi_map "${setup_folder}/cabi/exports.map")
add_library(transfer_engine SHARED ${cabi_sources})
target_include_directories(transfer_engine PRIVATE "${PROJECT_SOURCE_DIR}/compat"
	PUBLIC $<BUILD_INTERFACE:${setup_folder}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_link_libraries(transfer_engine PRIVATE causeway_setup causeway json_c Threads::Threads)
target_link_options(transfer_engine PRIVATE -Wl,--version-script=${cabi_map} -Wl,--as-needed
	-Wl,-z,now -Wl,-z,relro -Wl,-z,nodelete)
set_target_properties(transfer_engine PROPERTIES C_VISIBILITY_PRESET hidden LINK_DEPENDS "${cabi_map}"
	BUILD_WITH_INSTALL_RPATH ON INSTALL_RPATH "$ORIGIN")

install(TARGETS transfer_engine LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY "${setup_folder}/include/" DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
file(RELATIVE_PATH pc_prefix "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig" "${CMAKE_INSTALL_PREFIX}")
configure_file("${PROJECT_SOURCE_DIR}/cmake/transfer_engine.pc.in" "${PROJECT_BINARY_DIR}/transfer_engine.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/transfer_engine.pc" DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
