// SPDX-License-Identifier: Apache-2.0
#include "torch/binding.hpp"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace physcon::binding {

// About 20 microseconds of one core: less is not worth waking a thread for.
constexpr double shared_work = 200e3;

Executor torch_executor(double work) {
    if (work < shared_work) {
        return serial_executor();
    }
    const auto run = [](void*, int64_t count, Task task, void* context) {
        torch::stable::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
            task(context, begin, end);
        });
    };
    return {run, nullptr, static_cast<int>(torch::stable::get_num_threads())};
}

namespace {

constexpr std::uintptr_t huge_page = std::uintptr_t{2} << 20;
// The C library maps allocations from here on afresh each time and recycles smaller ones, which
// have their pages.
constexpr std::uintptr_t always_mapped = std::uintptr_t{32} << 20;

/// Fresh large memory costs more in page faults than the kernels that fill it; huge pages remove
/// most of them. Advice only: where the system has none, nothing changes.
void advise_huge_pages(const Tensor& t) {
#if defined(__linux__)
    if (!t.is_cpu()) {
        return;
    }
    const auto size = static_cast<std::uintptr_t>(t.numel()) * t.element_size();
    if (size < always_mapped) {
        return;
    }
    const auto begin = reinterpret_cast<std::uintptr_t>(t.data_ptr()), end = begin + size;
    const std::uintptr_t first = (begin + huge_page - 1) / huge_page * huge_page,
                         last = end / huge_page * huge_page;
    if (last > first) {
        madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
    }
#else
    (void)t;
#endif
}

}  // namespace

Tensor allocate(const Tensor& like, const Shape& shape, ScalarType dtype) {
    Tensor t = torch::stable::new_empty(like, {shape.data(), shape.size()}, dtype);
    advise_huge_pages(t);
    return t;
}
Tensor allocate(const Tensor& like, const Shape& shape) {
    return allocate(like, shape, like.scalar_type());
}

std::string describe(const Shape& shape) {
    std::string text = "(";
    for (std::size_t i = 0; i < shape.size(); ++i) {
        text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
    }
    return text + ")";
}
Shape shape_of(const Tensor& t) {
    return {t.sizes().begin(), t.sizes().end()};
}
Shape join(const Shape& batch, std::initializer_list<int64_t> rest) {
    Shape shape = batch;
    shape.insert(shape.end(), rest);
    return shape;
}
int64_t product(const Shape& shape) {
    int64_t count = 1;
    for (const int64_t size : shape) {
        count *= size;
    }
    return count;
}

Geometry::Geometry(const char* name, const Tensor& mean) : op(name) {
    STD_TORCH_CHECK(mean.dim() >= 1, op, ": expected mean to have at least 1 dimension, got 0");
    batch = shape_of(mean);
    n = batch.back();
    batch.pop_back();
    items = product(batch);
}

Operand::Operand(
    const Geometry& geometry,
    const char* name,
    const Tensor& given,
    const Tensor& mean,
    std::initializer_list<int64_t> rest,
    bool may_be_shared
)
    : tensor(given) {
    const Shape full = join(geometry.batch, rest), found = shape_of(given);
    shared = may_be_shared && found == Shape(rest);
    STD_TORCH_CHECK(
        shared || found == full,
        geometry.op,
        ": expected ",
        name,
        " to have shape ",
        describe(full),
        ", got ",
        describe(found)
    );
    STD_TORCH_CHECK(
        given.scalar_type() == mean.scalar_type(),
        geometry.op,
        ": expected ",
        name,
        " to have the dtype of mean"
    );
    const int64_t size = product(Shape(rest));
    // One item for the whole batch, or the batch axes collapse onto one stride: read in place.
    int64_t inner = 1;
    bool dense = true, repeated = true;
    const auto axes = static_cast<int64_t>(found.size());
    const auto batch_axes = axes - static_cast<int64_t>(rest.size());
    for (int64_t axis = axes - 1; axis >= batch_axes; --axis) {
        dense = dense && (found[axis] == 1 || given.stride(axis) == inner);
        inner *= found[axis];
    }
    for (int64_t axis = 0; axis < batch_axes; ++axis) {
        repeated = repeated && (found[axis] == 1 || given.stride(axis) == 0);
    }
    if (dense && repeated) {
        stride = 0;
        return;
    }
    tensor = torch::stable::contiguous(given);
    stride = shared ? 0 : size;
}

Workspace::Workspace(const Tensor& like, std::size_t bytes)
    : memory_(allocate(like, {static_cast<int64_t>(bytes + 64)}, ScalarType::Byte)) {
    const auto address = reinterpret_cast<std::uintptr_t>(memory_.mutable_data_ptr());
    data_ = reinterpret_cast<void*>((address + 63) / 64 * 64);
}

}  // namespace physcon::binding
