# SPDX-License-Identifier: Apache-2.0
# tests/unit/<name>_test.c is one program and one ctest test; tests/support/*.c is linked into all of them. tests/plugin/<name>.c is
# the plug-in <name>.so, tests/process/peer*.c the engine that whole-process tests (pytest) drive.

# Looked for again at each configuration, so that a tree that was first built without it gets its tests later.
find_library(CMOCKA_LIBRARY NAMES cmocka)
if(NOT CMOCKA_LIBRARY)
	message(STATUS "cmocka (libcmocka-dev) is missing: the tests are not built")
	return()
endif()

file(GLOB plugin_sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/tests/plugin/*.c")
foreach(source ${plugin_sources})
	cmake_path(GET source STEM name)
	add_library(plugin_${name} MODULE ${source})
	target_include_directories(plugin_${name} PRIVATE "${PROJECT_SOURCE_DIR}/include")
	set_target_properties(plugin_${name} PROPERTIES PREFIX "" OUTPUT_NAME ${name} C_VISIBILITY_PRESET hidden
		LIBRARY_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/tests/plugin")
endforeach()

# Vendor libraries that are empty or broken: fake(NAME SOURCE SONAME DEFINITIONS...) makes tests/fake/NAME/SONAME.
function(fake name source soname)
	add_library(fake_${name} MODULE "${PROJECT_SOURCE_DIR}/tests/fake/${source}")
	target_include_directories(fake_${name} PRIVATE "${PROJECT_SOURCE_DIR}/include" "${PROJECT_SOURCE_DIR}/src")
	target_compile_definitions(fake_${name} PRIVATE ${ARGN})
	target_compile_options(fake_${name} PRIVATE -Wno-unused-parameter)
	target_link_options(fake_${name} PRIVATE -Wl,-soname,${soname})
	set_target_properties(fake_${name} PROPERTIES PREFIX "" SUFFIX "" OUTPUT_NAME ${soname}
		LIBRARY_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/tests/fake/${name}")
	set_property(GLOBAL APPEND PROPERTY causeway_fakes fake_${name})
endfunction()
fake(whole tangrt.c libtangrt_shared.so)
fake(lacks_symbol tangrt.c libtangrt_shared.so FAKE_LACKS_SYMBOL)
fake(unresolved tangrt.c libtangrt_shared.so FAKE_UNRESOLVED)
fake(no_device tangrt.c libtangrt_shared.so FAKE_NO_DEVICE)
fake(cuda_link_only cuda_link_only.c libcuda.so.1)
fake(cuda_fabric cuda_fabric.c libcuda.so.1)
fake(silent_names silent_names.c libsilent_names.so)
fake(hiredis_1 hiredis.c libhiredis.so.1.1.0)
fake(hiredis_unknown hiredis.c libhiredis.so.1.1.0 FAKE_UNKNOWN)

file(GLOB support_sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/tests/support/*.c")
if(support_sources)
	add_library(causeway_test_support STATIC ${support_sources})
	target_include_directories(causeway_test_support PUBLIC "${PROJECT_SOURCE_DIR}/tests")
	target_compile_definitions(causeway_test_support PRIVATE "EMULATORS=\"${PROJECT_BINARY_DIR}/emulators\"")
	target_link_libraries(causeway_test_support PUBLIC causeway_static)
endif()

# Sanitized programs are several times slower.
set(unit_timeout 60)
if(CAUSEWAY_SANITIZE)
	set(unit_timeout 240)
endif()

file(GLOB tests CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/tests/unit/*_test.c")
foreach(source ${tests})
	cmake_path(GET source STEM name)
	if(${name} MATCHES "^emulator_" AND NOT TARGET causeway_emulator)
		continue()
	endif()
	add_executable(${name} ${source})
	set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/tests")
	target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}/tests")
	if(TARGET causeway_test_support)
		target_link_libraries(${name} PRIVATE causeway_test_support)
	endif()
	target_link_libraries(${name} PRIVATE causeway_static ${CMOCKA_LIBRARY})
	# Loops and tables over enumerations; clang counts int to enum as a change of sign, gcc does not.
	target_compile_options(${name} PRIVATE -Wno-sign-conversion)
	if(${name} MATCHES "^emulator_")
		target_link_libraries(${name} PRIVATE emulator_tang emulator_ptml emulator_cuda causeway_emulator
			causeway_emulator_core)
		target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}/emulators")
	endif()
	if(${name} MATCHES "^setup_")
		target_link_libraries(${name} PRIVATE causeway_setup)
	endif()
	add_test(NAME ${name} COMMAND ${name})
	set_tests_properties(${name} PROPERTIES TIMEOUT ${unit_timeout} SKIP_RETURN_CODE 77)
	if(${name} MATCHES "^gpu_")
		get_property(fakes GLOBAL PROPERTY causeway_fakes)
		add_dependencies(${name} ${fakes})
		if(TARGET causeway_emulator)
			add_dependencies(${name} emulator_tang emulator_ptml emulator_tang_old emulator_tang_broken emulator_cuda)
		endif()
		target_compile_definitions(${name} PRIVATE "FAKES=\"${PROJECT_BINARY_DIR}/tests/fake\""
			"EMULATORS=\"${PROJECT_BINARY_DIR}/emulators\"")
	endif()
	if(${name} MATCHES "^(plugin|staging|device_sync)_")
		add_dependencies(${name} plugin_fake_device plugin_inside plugin_memcopy plugin_no_hook plugin_no_symbol
			plugin_wrong_abi plugin_wrong_table)
		set_property(TEST ${name} APPEND PROPERTY ENVIRONMENT
			"CAUSEWAY_EXAMPLE_PLUGIN=$<TARGET_FILE:plugin_inside>")
		target_compile_definitions(${name} PRIVATE "PLUGINS=\"${PROJECT_BINARY_DIR}/tests/plugin\"")
	endif()
endforeach()

file(GLOB peer_sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/tests/process/peer*.c")
add_executable(cwpeer ${peer_sources})
target_link_libraries(cwpeer PRIVATE causeway json_c Threads::Threads)

# Does everything that a clean run does; `./do check quiet` sees that it prints nothing.
add_executable(cwquiet "${PROJECT_SOURCE_DIR}/tests/process/quiet.c")
target_link_libraries(cwquiet PRIVATE causeway)

# tests/compat/<name>_test.c sees of libtransfer_engine.so what programs for Mooncake see. Such programs are cwexchange, cwtensorrt and
# cwgraceful; those that end in _declared are the same source with declarations of its own, the project's headers out of sight.
file(GLOB compat_tests CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/tests/compat/*_test.c")
foreach(source ${compat_tests})
	cmake_path(GET source STEM name)
	add_executable(compat_${name} ${source})
	set_target_properties(compat_${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/tests")
	target_link_libraries(compat_${name} PRIVATE transfer_engine causeway ${CMOCKA_LIBRARY} Threads::Threads)
	add_test(NAME compat_${name} COMMAND compat_${name})
	set_tests_properties(compat_${name} PROPERTIES TIMEOUT ${unit_timeout})
endforeach()
foreach(program exchange tensorrt graceful)
	add_executable(cw${program} "${PROJECT_SOURCE_DIR}/tests/compat/${program}.c")
	target_link_libraries(cw${program} PRIVATE transfer_engine)
endforeach()
foreach(program exchange tensorrt)
	add_executable(cw${program}_declared "${PROJECT_SOURCE_DIR}/tests/compat/${program}.c")
	target_compile_definitions(cw${program}_declared PRIVATE DECLARED)
	target_link_libraries(cw${program}_declared PRIVATE "$<TARGET_FILE:transfer_engine>")
	target_link_options(cw${program}_declared PRIVATE "-Wl,-rpath-link,$<TARGET_FILE_DIR:causeway>")
	add_dependencies(cw${program}_declared transfer_engine)
endforeach()

# One metadata store without an engine, driven by lines.
add_executable(cwstore "${PROJECT_SOURCE_DIR}/tests/process/store_driver.c")
target_link_libraries(cwstore PRIVATE causeway_static)
