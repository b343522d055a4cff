// SPDX-License-Identifier: Apache-2.0
// NumPy arrays as arguments of the C functions: no copies, no conversions.
#pragma once

#include <physcon/physcon.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdlib>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>

namespace physcon::python {

namespace py = pybind11;

using Array = py::array;
using MaybeArray = std::optional<py::array>;

/// Refuses an array of another dtype, of other strides than C order, or of another size.
template <typename T>
void check(const Array& array, const char* name, py::ssize_t size) {
    if (!py::isinstance<py::array_t<T>>(array)) {
        throw py::type_error(
            std::string("physcon::core: expected ") + name + " to have dtype " +
            py::cast<std::string>(py::str(py::dtype::of<T>())) + ", got " +
            py::cast<std::string>(py::str(array.dtype()))
        );
    }
    if ((array.flags() & py::array::c_style) == 0) {
        throw py::value_error(
            std::string("physcon::core: expected ") + name + " to be C-contiguous, got strides " +
            py::cast<std::string>(py::str(array.attr("strides")))
        );
    }
    if (array.size() != size) {
        throw py::value_error(
            std::string("physcon::core: expected ") + name + " to hold " + std::to_string(size) +
            " elements, got " + std::to_string(array.size())
        );
    }
}

template <typename T>
struct Input {
    const T* data;
    std::int64_t stride;
};

/// An array of (items, ...) with `size` elements per item, or (1, ...) shared by the batch.
template <typename T>
Input<T> input(const Array& array, const char* name, std::int64_t batch, std::int64_t size) {
    const bool shared = array.ndim() > 0 && array.shape(0) == 1;
    check<T>(array, name, (shared ? 1 : batch) * size);
    return {static_cast<const T*>(array.data()), shared ? 0 : size};
}

template <typename T>
T* output(Array& array, const char* name, std::int64_t size) {
    check<T>(array, name, size);
    return static_cast<T*>(array.mutable_data());  // raises when the array is read-only
}

template <typename T>
T* output(MaybeArray& array, const char* name, std::int64_t size) {
    return array ? output<T>(*array, name, size) : nullptr;
}

class Workspace {
  public:
    explicit Workspace(std::size_t size)
        : size_(
              (size + PHYSCON_WORKSPACE_ALIGNMENT - 1) / PHYSCON_WORKSPACE_ALIGNMENT *
              PHYSCON_WORKSPACE_ALIGNMENT
          ),
          data_(size_ == 0 ? nullptr : std::aligned_alloc(PHYSCON_WORKSPACE_ALIGNMENT, size_)) {
        if (size_ != 0 && data_ == nullptr) {
            throw std::bad_alloc();
        }
    }
    Workspace(const Workspace&) = delete;
    Workspace& operator=(const Workspace&) = delete;
    ~Workspace() {
        std::free(data_);
    }
    void* data() const {
        return data_;
    }
    std::size_t size() const {
        return size_;
    }

  private:
    std::size_t size_;
    void* data_;
};

inline void raise_unless_ok(int status, const physcon_error& error) {
    if (status == PHYSCON_ERROR_ENVIRONMENT) {
        throw std::runtime_error(error.message);
    }
    if (status != PHYSCON_OK) {
        throw py::value_error(error.message);
    }
}

/// Calls the float or the double copy, by the dtype of the first argument; none takes copies.
template <typename... Args>
auto by_dtype(void (*as_double)(const Array&, Args...), void (*as_float)(const Array&, Args...)) {
    return [=](const Array& mean, Args... rest) {
        if (py::isinstance<py::array_t<float>>(mean)) {
            as_float(mean, rest...);
        } else {
            as_double(mean, rest...);
        }
    };
}

}  // namespace physcon::python
