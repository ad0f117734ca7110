# SPDX-License-Identifier: Apache-2.0
# Emulated runtimes. emulators/core is one library, libcauseway_emulator.so, beside folders with the vendors' libraries:
#   sunrise         libtangrt_shared.so and libptml_shared.so
#   sunrise-old     the same without what only newer runtimes have
#   sunrise-broken  a Tang runtime that lacks a required symbol
#   cuda            libcuda.so.1
# causeway_emulator_core is the core as an archive, for programs that build or look at a world.

set(emulators_dir "${PROJECT_BINARY_DIR}/emulators")
set(emulators_source "${PROJECT_SOURCE_DIR}/emulators")

file(GLOB core_sources CONFIGURE_DEPENDS "${emulators_source}/core/*.c")
add_library(causeway_emulator_core STATIC ${core_sources})
target_include_directories(causeway_emulator_core PUBLIC "${emulators_source}" "${PROJECT_SOURCE_DIR}/src")
target_link_libraries(causeway_emulator_core PUBLIC Threads::Threads)
set_target_properties(causeway_emulator_core PROPERTIES POSITION_INDEPENDENT_CODE ON)

# Never unloaded: it has threads, and work to do at exit.
set(emulator_map "${emulators_source}/core/exports.map")
add_library(causeway_emulator SHARED ${core_sources})
target_include_directories(causeway_emulator PUBLIC "${emulators_source}" "${PROJECT_SOURCE_DIR}/src")
target_link_libraries(causeway_emulator PRIVATE Threads::Threads)
target_link_options(causeway_emulator PRIVATE "-Wl,--version-script=${emulator_map}" -Wl,-z,nodelete)
set_target_properties(causeway_emulator PROPERTIES LIBRARY_OUTPUT_DIRECTORY "${emulators_dir}"
	LINK_DEPENDS "${emulator_map}")
install(TARGETS causeway_emulator LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}/causeway/emulators")

# emulator_face(TARGET FOLDER SONAME SOURCES MAP): one library of one vendor, emulators/FOLDER/SONAME.
function(emulator_face target folder soname sources map)
	file(GLOB face_sources CONFIGURE_DEPENDS "${emulators_source}/${sources}/*.c")
	add_library(${target} SHARED ${face_sources})
	target_link_libraries(${target} PRIVATE causeway_emulator Threads::Threads)
	target_link_options(${target} PRIVATE "-Wl,--version-script=${emulators_source}/${sources}/${map}"
		-Wl,-z,nodelete "-Wl,-soname,${soname}")
	set_target_properties(${target} PROPERTIES PREFIX "" OUTPUT_NAME "${soname}" SUFFIX "" NO_SONAME ON
		LIBRARY_OUTPUT_DIRECTORY "${emulators_dir}/${folder}" BUILD_RPATH_USE_ORIGIN ON
		BUILD_RPATH "$ORIGIN;$ORIGIN/.." INSTALL_RPATH "$ORIGIN;$ORIGIN/.." SKIP_BUILD_RPATH OFF
		BUILD_WITH_INSTALL_RPATH ON LINK_DEPENDS "${emulators_source}/${sources}/${map}")
	install(TARGETS ${target} LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}/causeway/emulators/${folder}")
endfunction()

emulator_face(emulator_tang sunrise libtangrt_shared.so tang exports.map)
emulator_face(emulator_ptml sunrise libptml_shared.so ptml exports.map)
emulator_face(emulator_tang_old sunrise-old libtangrt_shared.so tang old.map)
emulator_face(emulator_ptml_old sunrise-old libptml_shared.so ptml exports.map)
emulator_face(emulator_tang_broken sunrise-broken libtangrt_shared.so tang broken.map)
emulator_face(emulator_ptml_broken sunrise-broken libptml_shared.so ptml exports.map)
emulator_face(emulator_cuda cuda libcuda.so.1 cuda exports.map)
