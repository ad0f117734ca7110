# SPDX-License-Identifier: Apache-2.0
# Compiler flags of every target.

if(NOT CMAKE_BUILD_TYPE)
	set(CMAKE_BUILD_TYPE Release)
endif()

# Assertions stay in whatever is built for finding errors; only Release is without.
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O2 -g")

set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

add_compile_definitions(_GNU_SOURCE)
# Messages and assertions name files relative to the source tree, wherever it lies.
add_compile_options("-fmacro-prefix-map=${PROJECT_SOURCE_DIR}/=")
add_compile_options(-Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wconversion)
if(CAUSEWAY_WERROR)
	add_compile_options(-Werror)
endif()

if(CAUSEWAY_SANITIZE)
	add_compile_options(-fsanitize=${CAUSEWAY_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
	add_link_options(-fsanitize=${CAUSEWAY_SANITIZE})
	# The thread sanitizer of LLVM 14 looks for a header in front of each block of thread-local memory that a loaded
	# library asks for. glibc writes none since 2.25, so it takes what lies there for a size, and now and then ends the
	# program ("failed to allocate"). Blocks at fixed places are not asked for.
	if(CAUSEWAY_SANITIZE MATCHES "thread")
		add_compile_options(-ftls-model=initial-exec)
	endif()
endif()
if(CAUSEWAY_FUZZ)
	add_compile_options(-fsanitize=fuzzer-no-link)
endif()
if(CAUSEWAY_COVERAGE)
	add_compile_options(-fprofile-instr-generate -fcoverage-mapping)
	add_link_options(-fprofile-instr-generate)
endif()
