# SPDX-License-Identifier: Apache-2.0
# nvlink_allocator.so, beside causeway/mooncake/allocator.py: device memory behind Mooncake's allocator symbols.

file(GLOB allocator_sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/compat/mooncake/allocator/*.c")
add_library(mooncake_allocator MODULE ${allocator_sources})
target_include_directories(mooncake_allocator PRIVATE "${PROJECT_SOURCE_DIR}/compat")
target_link_libraries(mooncake_allocator PRIVATE causeway_static ${CMAKE_DL_LIBS})
# Never unloaded: it knows the blocks that are still to be freed.
set(allocator_map "${PROJECT_SOURCE_DIR}/compat/mooncake/allocator/exports.map")
target_link_options(mooncake_allocator PRIVATE -Wl,--version-script=${allocator_map} -Wl,--as-needed -Wl,--gc-sections
	-Wl,-z,now -Wl,-z,relro -Wl,-z,nodelete)
set_target_properties(mooncake_allocator PROPERTIES PREFIX "" OUTPUT_NAME nvlink_allocator LINK_DEPENDS "${allocator_map}" C_VISIBILITY_PRESET hidden
	LIBRARY_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/python/causeway/mooncake")
install(TARGETS mooncake_allocator LIBRARY DESTINATION causeway/mooncake COMPONENT python EXCLUDE_FROM_ALL)
add_dependencies(python_package mooncake_allocator)
