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
