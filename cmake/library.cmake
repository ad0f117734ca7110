# SPDX-License-Identifier: Apache-2.0
# The library, compiled once: libcauseway.so for users, causeway_static for tests that look inside.

file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/src/*.c")

add_library(causeway_objects OBJECT ${sources})
target_include_directories(causeway_objects PUBLIC "${PROJECT_SOURCE_DIR}/include" "${PROJECT_SOURCE_DIR}/src"
	"${JSON_C_INCLUDE_DIR}")
target_link_libraries(causeway_objects PUBLIC Threads::Threads)
set_target_properties(causeway_objects PROPERTIES POSITION_INDEPENDENT_CODE ON C_VISIBILITY_PRESET hidden)
if(MC_TANGRT_ROOT)
	set_property(SOURCE "${PROJECT_SOURCE_DIR}/src/platforms/gpu/rows.c" APPEND PROPERTY
		COMPILE_DEFINITIONS "CW__TANGRT_ROOT=\"${MC_TANGRT_ROOT}\"")
endif()

add_library(causeway_static STATIC $<TARGET_OBJECTS:causeway_objects>)
target_include_directories(causeway_static PUBLIC "${PROJECT_SOURCE_DIR}/include" "${PROJECT_SOURCE_DIR}/src")
target_link_libraries(causeway_static PUBLIC json_c Threads::Threads)
set_target_properties(causeway_static PROPERTIES LINKER_LANGUAGE C)

add_library(causeway SHARED $<TARGET_OBJECTS:causeway_objects>)
add_library(Causeway::causeway ALIAS causeway)
target_include_directories(causeway PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
	$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_link_libraries(causeway PRIVATE json_c Threads::Threads)
set(export_map "${PROJECT_SOURCE_DIR}/src/causeway.map")
# Never unloaded: a thread that a name server or a device holds comes back to its code, perhaps much later.
target_link_options(causeway PRIVATE -Wl,--version-script=${export_map} -Wl,--as-needed -Wl,-z,now -Wl,-z,relro
	-Wl,-z,nodelete)
set_target_properties(causeway PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}
	LINKER_LANGUAGE C LINK_DEPENDS "${export_map}")
