# SPDX-License-Identifier: Apache-2.0
# Header, library, pkg-config file, CMake package and manual pages.

include(CMakePackageConfigHelpers)

install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/causeway" DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
	FILES_MATCHING PATTERN "*.h")
install(TARGETS causeway EXPORT CausewayTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" DESTINATION ${CMAKE_INSTALL_DOCDIR})

# Relative to the file itself, so that `cmake --install --prefix` may choose another place.
file(RELATIVE_PATH pc_prefix "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig" "${CMAKE_INSTALL_PREFIX}")
configure_file("${PROJECT_SOURCE_DIR}/cmake/causeway.pc.in" "${PROJECT_BINARY_DIR}/causeway.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/causeway.pc" DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/Causeway)
install(EXPORT CausewayTargets NAMESPACE Causeway:: DESTINATION ${package_dir})
configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/CausewayConfig.cmake.in"
	"${PROJECT_BINARY_DIR}/CausewayConfig.cmake" INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file("${PROJECT_BINARY_DIR}/CausewayConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/CausewayConfig.cmake" "${PROJECT_BINARY_DIR}/CausewayConfigVersion.cmake"
	DESTINATION ${package_dir})

foreach(section 1 3 7)
	file(GLOB pages CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/man/*.${section}")
	if(pages)
		install(FILES ${pages} DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section})
	endif()
endforeach()

# The pages that follow from the sources: functions, statuses, settings. `man -M build/release/man cw_batch_submit` shows one.
find_program(PYTHON3 python3)
if(PYTHON3)
	set(man_dir "${PROJECT_BINARY_DIR}/man")
	add_custom_command(OUTPUT "${man_dir}/made"
		COMMAND "${PYTHON3}" "${PROJECT_SOURCE_DIR}/scripts/man.py" "${man_dir}"
		COMMAND "${CMAKE_COMMAND}" -E touch "${man_dir}/made"
		DEPENDS "${PROJECT_SOURCE_DIR}/scripts/man.py" "${PROJECT_SOURCE_DIR}/include/causeway/causeway.h"
			"${PROJECT_SOURCE_DIR}/src/core/settings.def" "${PROJECT_SOURCE_DIR}/src/core/status.def"
		COMMENT "Making manual pages" VERBATIM)
	add_custom_target(man ALL DEPENDS "${man_dir}/made")
	install(DIRECTORY "${man_dir}/man3" "${man_dir}/man7" DESTINATION ${CMAKE_INSTALL_MANDIR})
else()
	message(STATUS "python3 is missing: no manual pages of functions, statuses and settings")
endif()
