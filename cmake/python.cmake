# SPDX-License-Identifier: Apache-2.0
# The Python package: <build>/python/causeway is what a wheel holds, so tests run with PYTHONPATH=<build>/python. The extension uses
# CPython's limited API, so that one build serves 3.11 (since which buffers are in it) and everything later. python/pyproject.toml installs the component "python".

set(python_required "")
if(SKBUILD)
	set(python_required REQUIRED)
endif()
# Scripts find their own Python; headers of any version from 3.11 serve.
find_package(Python 3.11 ${python_required} COMPONENTS Interpreter Development.Module)
if(NOT Python_Development.Module_FOUND)
	message(STATUS "Python's headers (python3-dev) are missing: the Python package is not built")
	return()
endif()

set(package_out "${PROJECT_BINARY_DIR}/python/causeway")
file(GLOB extension_sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/python/src/*.c")
add_library(python_extension MODULE ${extension_sources})
target_include_directories(python_extension SYSTEM PRIVATE ${Python_INCLUDE_DIRS})
target_include_directories(python_extension PRIVATE "${PROJECT_SOURCE_DIR}/include" "${PROJECT_SOURCE_DIR}/python/src"
	"${PROJECT_SOURCE_DIR}/compat" "${JSON_C_INCLUDE_DIR}")
target_compile_definitions(python_extension PRIVATE Py_LIMITED_API=0x030B0000)
# Slots of modules and types hold functions as void *, which strict C has no cast for.
target_compile_options(python_extension PRIVATE -Wno-pedantic)
# The engine is inside, hidden: a program that has libcauseway.so of another version loaded is not disturbed.
target_link_libraries(python_extension PRIVATE causeway_static causeway_setup)
target_link_options(python_extension PRIVATE -Wl,--exclude-libs,ALL -Wl,--as-needed -Wl,-z,now -Wl,-z,relro)
set_target_properties(python_extension PROPERTIES PREFIX "" OUTPUT_NAME _causeway SUFFIX .abi3.so
	C_VISIBILITY_PRESET hidden LIBRARY_OUTPUT_DIRECTORY "${package_out}")

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
