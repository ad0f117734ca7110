# SPDX-License-Identifier: Apache-2.0
# The programs of ./do bench: each C file in bench/ is one that uses the library, bench/bare/ together is the one that
# does the same work without it, bench/nothing.c the transport that moves nothing.

set(bench_output "${PROJECT_BINARY_DIR}/bench")

file(GLOB bare_sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/bench/bare/*.c")
add_executable(bare ${bare_sources})
set_target_properties(bare PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${bench_output}")
target_link_libraries(bare PRIVATE Threads::Threads)

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
