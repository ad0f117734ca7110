# SPDX-License-Identifier: Apache-2.0
# The Python package: <build>/python/causeway is what a wheel holds, so tests run with PYTHONPATH=<build>/python. The extension uses
# CPython's limited API, so that one build serves 3.9 and everything later. python/pyproject.toml installs the component "python".

set(python_required "")
if(SKBUILD)
	set(python_required REQUIRED)
endif()
# Scripts find their own Python; headers of any version from 3.9 serve.
find_package(Python 3.9 ${python_required} COMPONENTS Interpreter Development.Module)
if(NOT Python_Development.Module_FOUND)
	message(STATUS "Python's headers (python3-dev) are missing: the Python package is not built")
	return()
endif()

set(package_out "${PROJECT_BINARY_DIR}/python/causeway")
file(GLOB extension_sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/python/src/*.c")
add_library(python_extension MODULE ${extension_sources})
# The interface file is where the docstrings are written.
set(docs_folder "${PROJECT_BINARY_DIR}/generated/python")
set(docs_script "${PROJECT_SOURCE_DIR}/python/src/docstrings.py")
set(docs_interface "${PROJECT_SOURCE_DIR}/python/causeway/_causeway.pyi")
file(MAKE_DIRECTORY "${docs_folder}")
add_custom_command(OUTPUT "${docs_folder}/docs.h" COMMAND Python::Interpreter "${docs_script}" "${docs_interface}" "${docs_folder}/docs.h"
	DEPENDS "${docs_script}" "${docs_interface}" VERBATIM)
target_sources(python_extension PRIVATE "${docs_folder}/docs.h")
target_include_directories(python_extension PRIVATE "${docs_folder}")
target_include_directories(python_extension SYSTEM PRIVATE ${Python_INCLUDE_DIRS})
target_include_directories(python_extension PRIVATE "${PROJECT_SOURCE_DIR}/include" "${PROJECT_SOURCE_DIR}/python/src"
	"${PROJECT_SOURCE_DIR}/compat" "${JSON_C_INCLUDE_DIR}")
target_compile_definitions(python_extension PRIVATE Py_LIMITED_API=0x03090000)
# Slots of modules and types hold functions as void *, which strict C has no cast for.
target_compile_options(python_extension PRIVATE -Wno-pedantic)
# The engine is inside, hidden: a program that has libcauseway.so of another version loaded is not disturbed.
target_link_libraries(python_extension PRIVATE causeway_static causeway_setup)
set(extension_map "${PROJECT_SOURCE_DIR}/python/src/exports.map")
target_link_options(python_extension PRIVATE -Wl,--version-script=${extension_map} -Wl,--as-needed -Wl,-z,now -Wl,-z,relro)
set_target_properties(python_extension PROPERTIES PREFIX "" OUTPUT_NAME _causeway SUFFIX .abi3.so
	C_VISIBILITY_PRESET hidden LIBRARY_OUTPUT_DIRECTORY "${package_out}" LINK_DEPENDS "${extension_map}")

# Python's own files: links, so that an edited file counts at once.
file(GLOB_RECURSE python_files CONFIGURE_DEPENDS RELATIVE "${PROJECT_SOURCE_DIR}/python"
	"${PROJECT_SOURCE_DIR}/python/causeway/*.py" "${PROJECT_SOURCE_DIR}/python/causeway/*.pyi"
	"${PROJECT_SOURCE_DIR}/python/causeway/py.typed")
foreach(file ${python_files})
	cmake_path(GET file PARENT_PATH folder)
	file(MAKE_DIRECTORY "${PROJECT_BINARY_DIR}/python/${folder}")
	file(CREATE_LINK "${PROJECT_SOURCE_DIR}/python/${file}" "${PROJECT_BINARY_DIR}/python/${file}" SYMBOLIC)
	install(FILES "${PROJECT_SOURCE_DIR}/python/${file}" DESTINATION "${folder}" COMPONENT python EXCLUDE_FROM_ALL)
endforeach()
install(TARGETS python_extension LIBRARY DESTINATION causeway COMPONENT python EXCLUDE_FROM_ALL)

add_custom_target(python_package DEPENDS python_extension)

# The programs, the libraries for C programs, and the headers go into the package too. In the build tree they are links.
if(SKBUILD)
	# A wheel has no links, so the library has one name.
	set_property(TARGET causeway PROPERTY VERSION)
	foreach(program causeway tebench transfer_engine_bench transfer_engine_validator)
		set_property(TARGET tool_${program} PROPERTY INSTALL_RPATH "$ORIGIN/../lib")
		install(TARGETS tool_${program} RUNTIME DESTINATION causeway/bin COMPONENT python EXCLUDE_FROM_ALL)
		add_dependencies(python_package tool_${program})
	endforeach()
	install(TARGETS causeway transfer_engine LIBRARY DESTINATION causeway/lib COMPONENT python NAMELINK_SKIP EXCLUDE_FROM_ALL)
	add_dependencies(python_package causeway transfer_engine)
	install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/" "${PROJECT_SOURCE_DIR}/compat/mooncake/include/"
		DESTINATION causeway/include COMPONENT python EXCLUDE_FROM_ALL)
	# Ours, and that of the JSON library inside.
	install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" DESTINATION "${SKBUILD_METADATA_DIR}/licenses" COMPONENT python EXCLUDE_FROM_ALL)
	find_file(JSON_C_LICENCE NAMES copyright PATHS "${JSON_C_INCLUDE_DIR}/../share/doc/libjson-c-dev"
		"${JSON_C_INCLUDE_DIR}/json-c" NO_DEFAULT_PATH NO_CMAKE_FIND_ROOT_PATH)
	if(JSON_C_LICENCE)
		install(FILES "${JSON_C_LICENCE}" DESTINATION "${SKBUILD_METADATA_DIR}/licenses" RENAME LICENSE.json-c
			COMPONENT python EXCLUDE_FROM_ALL)
	endif()
else()
	file(CREATE_LINK "${CMAKE_RUNTIME_OUTPUT_DIRECTORY}" "${package_out}/bin" SYMBOLIC)
	file(CREATE_LINK "${CMAKE_LIBRARY_OUTPUT_DIRECTORY}" "${package_out}/lib" SYMBOLIC)
endif()
