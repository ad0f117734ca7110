# SPDX-License-Identifier: Apache-2.0
# The programs of ./do bench: each C file in bench/ is one that uses the library, bench/bare/ together is the one that
# does the same work without it, bench/nothing.c the transport that moves nothing.

set(bench_output "${PROJECT_BINARY_DIR}/bench")

file(GLOB bare_sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/bench/bare/*.c")
add_executable(bare ${bare_sources})
set_target_properties(bare PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${bench_output}")
target_link_libraries(bare PRIVATE Threads::Threads)

# libfabric as a peer, measured by the same program with a table of its own; only where its headers are.
find_path(LIBFABRIC_INCLUDE_DIR NAMES rdma/fi_rma.h)
find_library(LIBFABRIC_LIBRARY NAMES fabric)
if(LIBFABRIC_INCLUDE_DIR AND LIBFABRIC_LIBRARY)
	list(FILTER bare_sources EXCLUDE REGEX "/tables\\.c$")
	add_executable(bench_libfabric "${PROJECT_SOURCE_DIR}/bench/peers/libfabric.c" ${bare_sources})
	set_target_properties(bench_libfabric PROPERTIES OUTPUT_NAME libfabric RUNTIME_OUTPUT_DIRECTORY "${bench_output}")
	target_include_directories(bench_libfabric PRIVATE "${PROJECT_SOURCE_DIR}/bench" "${LIBFABRIC_INCLUDE_DIR}")
	target_link_libraries(bench_libfabric PRIVATE "${LIBFABRIC_LIBRARY}" Threads::Threads)
endif()

add_library(plugin_nothing MODULE "${PROJECT_SOURCE_DIR}/bench/nothing.c")
target_include_directories(plugin_nothing PRIVATE "${PROJECT_SOURCE_DIR}/include")
set_target_properties(plugin_nothing PROPERTIES PREFIX "" OUTPUT_NAME nothing C_VISIBILITY_PRESET hidden
	LIBRARY_OUTPUT_DIRECTORY "${bench_output}")

file(GLOB bench_sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/bench/*.c")
list(REMOVE_ITEM bench_sources "${PROJECT_SOURCE_DIR}/bench/nothing.c")
foreach(source ${bench_sources})
	cmake_path(GET source STEM program)
	add_executable(${program} ${source})
	set_target_properties(${program} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${bench_output}")
	target_include_directories(${program} PRIVATE "${PROJECT_SOURCE_DIR}/src")
	target_link_libraries(${program} PRIVATE causeway Threads::Threads ${CMAKE_DL_LIBS})
	add_dependencies(${program} plugin_nothing)
endforeach()
