// SPDX-License-Identifier: Apache-2.0
// What the C functions share: checks with their sentences, and exceptions turned into codes.
#pragma once

#include <physcon/physcon.h>

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <exception>

#include "core/executor.hpp"

namespace physcon {

inline int fail(physcon_error* error, int status, const char* format, ...) {
    if (error != nullptr) {
        std::va_list values;
        va_start(values, format);
        std::vsnprintf(error->message, sizeof error->message, format, values);
        va_end(values);
    }
    return status;
}

inline Executor executor_of(const physcon_executor* executor) {
    if (executor == nullptr) {
        return serial_executor();
    }
    return {executor->run, executor->pool, executor->threads};
}

/// Collects the first thing that is wrong with the arguments of one call.
class Checker {
  public:
    Checker(const char* op, physcon_error* error) : op_(op), error_(error) {
        if (error != nullptr) {
            error->message[0] = '\0';
        }
    }

    int status() const {
        return status_;
    }
    bool good() const {
        return status_ == PHYSCON_OK;
    }

    void at_least(const char* name, std::int64_t value, std::int64_t least) {
        if (good() && value < least) {
            status_ = fail(
                error_,
                PHYSCON_ERROR_ARGUMENT,
                "physcon_%s: expected %s to be >= %lld, got %lld",
                op_,
                name,
                static_cast<long long>(least),
                static_cast<long long>(value)
            );
        }
    }

    void given(const char* name, const void* pointer) {
        if (good() && pointer == nullptr) {
            status_ = fail(
                error_, PHYSCON_ERROR_ARGUMENT, "physcon_%s: expected %s, got NULL", op_, name
            );
        }
    }

    void absent(const char* name, const void* pointer) {
        if (good() && pointer != nullptr) {
            status_ = fail(
                error_,
                PHYSCON_ERROR_ARGUMENT,
                "physcon_%s: expected %s to be NULL in this form, got a pointer",
                op_,
                name
            );
        }
    }

    /// An input of `size` elements per item: present, and shared or without overlap of items.
    void input(const char* name, const void* pointer, std::int64_t stride, std::int64_t size) {
        given(name, pointer);
        if (good() && stride != 0 && stride < size) {
            status_ = fail(
                error_,
                PHYSCON_ERROR_ARGUMENT,
                "physcon_%s: expected the stride of %s to be 0 or >= %lld, got %lld",
                op_,
                name,
                static_cast<long long>(size),
                static_cast<long long>(stride)
            );
        }
    }

    void executor(const physcon_executor* executor) {
        if (executor != nullptr) {
            given("executor->run", reinterpret_cast<const void*>(executor->run));
            at_least("executor->threads", executor->threads, 1);
        }
    }

    void workspace(const void* workspace, std::size_t size, std::size_t needed) {
        if (!good() || needed == 0) {
            return;
        }
        const auto address = reinterpret_cast<std::uintptr_t>(workspace);
        if (workspace == nullptr || size < needed || address % PHYSCON_WORKSPACE_ALIGNMENT != 0) {
            status_ = fail(
                error_,
                PHYSCON_ERROR_WORKSPACE,
                "physcon_%s: expected a workspace of %zu bytes aligned to %d, got %zu bytes at %p",
                op_,
                needed,
                PHYSCON_WORKSPACE_ALIGNMENT,
                size,
                workspace
            );
        }
    }

    void reject(const char* sentence, std::int64_t index, std::int64_t value) {
        if (good()) {
            status_ = fail(
                error_,
                PHYSCON_ERROR_ARGUMENT,
                "physcon_%s: %s, got %lld at index %lld",
                op_,
                sentence,
                static_cast<long long>(value),
                static_cast<long long>(index)
            );
        }
    }

  private:
    const char* op_;
    physcon_error* error_;
    int status_ = PHYSCON_OK;
};

/// Runs `work`; the only thing it can throw is a wrong PHYSCON_ISA.
template <typename Work>
int guarded(physcon_error* error, const Work& work) {
    try {
        work();
        return PHYSCON_OK;
    } catch (const std::exception& problem) {
        return fail(error, PHYSCON_ERROR_ENVIRONMENT, "%s", problem.what());
    } catch (...) {
        return fail(error, PHYSCON_ERROR_ENVIRONMENT, "physcon: unknown error");
    }
}

/// What `needed(pool)` says, or 0: the call itself reports what is wrong.
template <typename Needed>
std::size_t workspace_bytes(
    const Checker& check, const physcon_executor* executor, const Needed& needed
) {
    std::size_t size = 0;
    if (check.good()) {
        guarded(nullptr, [&] { size = needed(executor_of(executor)); });
    }
    return size;
}

/// Runs `call(pool)` if nothing is wrong and the workspace holds `needed(pool)` bytes.
template <typename Needed, typename Call>
int run_in_workspace(
    Checker& check,
    const physcon_executor* executor,
    void* workspace,
    std::size_t size,
    physcon_error* error,
    const Needed& needed,
    const Call& call
) {
    if (!check.good()) {
        return check.status();
    }
    const int status = guarded(error, [&] {
        const Executor pool = executor_of(executor);
        check.workspace(workspace, size, needed(pool));
        if (check.good()) {
            call(pool);
        }
    });
    return check.good() ? status : check.status();
}

}  // namespace physcon
