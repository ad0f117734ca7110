# SPDX-License-Identifier: Apache-2.0
# Each folder of tools/ is a program of that name, except tools/lib, which they share. They see the public header only.

set(CMAKE_INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")

file(GLOB shared_sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/tools/lib/*.c")
if(shared_sources)
	add_library(causeway_tools STATIC ${shared_sources})
	target_include_directories(causeway_tools PUBLIC "${PROJECT_SOURCE_DIR}/tools" "${PROJECT_SOURCE_DIR}/tools/lib")
	target_include_directories(causeway_tools PRIVATE "${PROJECT_SOURCE_DIR}/compat")
	target_link_libraries(causeway_tools PUBLIC causeway json_c Threads::Threads m)
endif()

file(GLOB folders CONFIGURE_DEPENDS LIST_DIRECTORIES true "${PROJECT_SOURCE_DIR}/tools/*")
foreach(folder ${folders})
	cmake_path(GET folder FILENAME program)
	file(GLOB sources CONFIGURE_DEPENDS "${folder}/*.c")
	if(NOT sources OR program STREQUAL "lib")
		continue()
	endif()
	# A program may have the name of the library's target, "causeway".
	add_executable(tool_${program} ${sources})
	set_target_properties(tool_${program} PROPERTIES OUTPUT_NAME ${program})
	target_include_directories(tool_${program} PRIVATE "${folder}")
	target_link_libraries(tool_${program} PRIVATE causeway json_c Threads::Threads m)
	if(TARGET causeway_tools)
		target_link_libraries(tool_${program} PRIVATE causeway_tools)
	endif()
	install(TARGETS tool_${program} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endforeach()

# `causeway emulate` makes the worlds that the emulated libraries join.
file(RELATIVE_PATH emulators_installed "${CMAKE_INSTALL_FULL_BINDIR}" "${CMAKE_INSTALL_FULL_LIBDIR}/causeway/emulators")
target_sources(tool_causeway PRIVATE "${PROJECT_SOURCE_DIR}/emulators/core/world.c")
target_include_directories(tool_causeway PRIVATE "${PROJECT_SOURCE_DIR}/emulators")
target_compile_definitions(tool_causeway PRIVATE "EMULATORS_INSTALLED=\"${emulators_installed}\"")

# `causeway config --mooncake` says what Mooncake's variables and files mean; the others take its connection strings.
foreach(program causeway transfer_engine_bench transfer_engine_validator tebench)
	target_link_libraries(tool_${program} PRIVATE causeway_setup)
endforeach()

# `causeway metadata-server` loads libmicrohttpd when it is run; only its header is needed here.
find_path(MICROHTTPD_INCLUDE_DIR NAMES microhttpd.h)
if(NOT MICROHTTPD_INCLUDE_DIR)
	message(FATAL_ERROR "microhttpd.h is missing; install libmicrohttpd-dev (libmicrohttpd-devel elsewhere)")
endif()
target_include_directories(tool_causeway PRIVATE "${MICROHTTPD_INCLUDE_DIR}")
target_link_libraries(tool_causeway PRIVATE ${CMAKE_DL_LIBS})

if(CAUSEWAY_EXAMPLES)
	file(GLOB examples CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/examples/*.c")
	foreach(source ${examples})
		cmake_path(GET source STEM program)
		add_executable(example_${program} ${source})
		set_target_properties(example_${program} PROPERTIES OUTPUT_NAME ${program}
			RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/examples")
		target_link_libraries(example_${program} PRIVATE causeway)
	endforeach()
endif()
