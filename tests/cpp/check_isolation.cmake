# SPDX-License-Identifier: Apache-2.0
# Objects compiled for a wide instruction set may define symbols of their own namespace only. An
# inline function outside it would be merged by the linker with the copy of other objects, and a
# processor without that instruction set might then run it.
# Variables: NM, ISA, OBJECTS (list)

set(defined 0)
foreach(object IN LISTS OBJECTS)
    execute_process(
        COMMAND "${NM}" --defined-only --demangle "${object}" OUTPUT_VARIABLE symbols
        COMMAND_ERROR_IS_FATAL ANY
    )
    string(REPLACE ";" "," symbols "${symbols}")
    string(REPLACE "\n" ";" symbols "${symbols}")
    foreach(symbol IN LISTS symbols)
        if(symbol MATCHES "^[0-9a-f]+ [TWVu] (.*)$")
            set(name "${CMAKE_MATCH_1}")
            math(EXPR defined "${defined} + 1")
            if(NOT name MATCHES "physcon::${ISA}::")
                message(SEND_ERROR "${object}: ${name} is outside physcon::${ISA}")
            endif()
        endif()
    endforeach()
endforeach()
if(defined EQUAL 0)
    message(FATAL_ERROR "no symbols found for ${ISA}")
endif()
message(STATUS "${ISA}: ${defined} symbols, all inside the namespace")
