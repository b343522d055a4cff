// SPDX-License-Identifier: Apache-2.0
// What every op binding shares: argument checks, strides, allocation, threads. No mathematics.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <cstddef>
#include <initializer_list>
#include <string>
#include <vector>

#include "core/condition.hpp"

namespace physcon::binding {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Shape = std::vector<int64_t>;

/// torch's thread pool as an executor of the core; `work` (floating-point operations, roughly) too
/// small to share stays in the calling thread. Bits never depend on it.
Executor torch_executor(double work);

/// Uninitialised tensor on the device of `like`.
Tensor allocate(const Tensor& like, const Shape& shape, ScalarType dtype);
Tensor allocate(const Tensor& like, const Shape& shape);

std::string describe(const Shape& shape);
Shape shape_of(const Tensor& t);
Shape join(const Shape& batch, std::initializer_list<int64_t> rest);
int64_t product(const Shape& shape);

/// The batch axes and the number of points of `mean` (..., n), the argument that the others are
/// measured against.
struct Geometry {
    const char* op;
    Shape batch;
    int64_t items, n;
    Geometry(const char* op, const Tensor& mean);
};

/// An argument whose last axes are `rest` and whose leading axes are the batch (or absent, if
/// `may_be_shared`). Expanded batches are read in place; anything else that is not contiguous is
/// copied.
struct Operand {
    Tensor tensor;
    int64_t stride = 0;
    bool shared = false;

    Operand(
        const Geometry& geometry,
        const char* name,
        const Tensor& given,
        const Tensor& mean,
        std::initializer_list<int64_t> rest,
        bool may_be_shared = false
    );
    template <typename T>
    Strided<T> view() const {
        return {static_cast<const T*>(tensor.const_data_ptr()), stride};
    }
};

/// `t` itself when it is contiguous (asking costs less than a dispatch), or a copy. On a CUDA
/// device also a copy of a view that begins within 16 bytes: kernels read pairs and runs of
/// numbers.
Tensor packed(const Tensor& t);

/// Memory for the core, 64-byte aligned, alive as long as this object. Small problems get it from
/// the stack.
class Workspace {
  public:
    explicit Workspace(std::size_t bytes);
    ~Workspace();
    Workspace(const Workspace&) = delete;
    Workspace& operator=(const Workspace&) = delete;
    void* data() {
        return data_;
    }

  private:
    static constexpr std::size_t alignment = 64;
    alignas(alignment) std::byte small_[std::size_t{64} << 10];
    void* data_;
};

/// Raises that an op does not compute in the dtype of `t`; where its wrapper does, with its name.
void refuse_dtype(const char* op, const Tensor& t);

/// Calls body(T{}) with the element type of `t`, float or double.
template <typename Body>
void dispatch(const char* op, const Tensor& t, Body&& body) {
    if (t.scalar_type() == ScalarType::Float) {
        body(float{});
    } else if (t.scalar_type() == ScalarType::Double) {
        body(double{});
    } else {
        refuse_dtype(op, t);
    }
}

}  // namespace physcon::binding
