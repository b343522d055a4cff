// SPDX-License-Identifier: Apache-2.0
#include "torch/binding.hpp"

namespace physcon::binding {

Executor torch_executor() {
    const auto run = [](void*, int64_t count, Task task, void* context) {
        torch::stable::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) { task(context, begin, end); });
    };
    return {run, nullptr, static_cast<int>(torch::stable::get_num_threads())};
}

Tensor allocate(const Tensor& like, const Shape& shape, ScalarType dtype) {
    return torch::stable::new_empty(like, {shape.data(), shape.size()}, dtype);
}
Tensor allocate(const Tensor& like, const Shape& shape) { return allocate(like, shape, like.scalar_type()); }

std::string describe(const Shape& shape) {
    std::string text = "(";
    for (std::size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
    return text + ")";
}
Shape shape_of(const Tensor& t) { return {t.sizes().begin(), t.sizes().end()}; }
Shape join(const Shape& batch, std::initializer_list<int64_t> rest) {
    Shape shape = batch;
    shape.insert(shape.end(), rest);
    return shape;
}
int64_t product(const Shape& shape) {
    int64_t count = 1;
    for (const int64_t size : shape) count *= size;
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
) : tensor(given) {
    const Shape full = join(geometry.batch, rest), found = shape_of(given);
    shared = may_be_shared && found == Shape(rest);
    STD_TORCH_CHECK(
        shared || found == full, geometry.op, ": expected ", name, " to have shape ", describe(full), ", got ",
        describe(found)
    );
    STD_TORCH_CHECK(
        given.scalar_type() == mean.scalar_type(), geometry.op, ": expected ", name, " to have the dtype of mean"
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
    for (int64_t axis = 0; axis < batch_axes; ++axis) repeated = repeated && (found[axis] == 1 || given.stride(axis) == 0);
    if (dense && repeated) {
        stride = 0;
        return;
    }
    tensor = torch::stable::contiguous(given);
    stride = size;
}

Workspace::Workspace(const Tensor& like, std::size_t bytes)
    : memory_(allocate(like, {static_cast<int64_t>(bytes + 64)}, ScalarType::Byte)) {
    const auto address = reinterpret_cast<std::uintptr_t>(memory_.mutable_data_ptr());
    data_ = reinterpret_cast<void*>((address + 63) / 64 * 64);
}

}  // namespace physcon::binding
