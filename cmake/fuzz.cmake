# SPDX-License-Identifier: Apache-2.0
# tests/fuzz/<name>_fuzz.c is one libFuzzer program; its seeds are in tests/fuzz/corpus/<name>/.

file(GLOB targets CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/tests/fuzz/*_fuzz.c")
foreach(source ${targets})
	cmake_path(GET source STEM name)
	add_executable(${name} ${source})
	set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/fuzz")
	target_link_libraries(${name} PRIVATE causeway_static)
	if(${name} MATCHES "^setup_")
		target_link_libraries(${name} PRIVATE causeway_setup)
	endif()
	target_link_options(${name} PRIVATE -fsanitize=fuzzer)
endforeach()
