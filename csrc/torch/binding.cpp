// SPDX-License-Identifier: Apache-2.0
#include "torch/binding.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <new>

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
    // Straight to the allocation: by the dispatcher, looking up aten::new_empty costs more.
    std::array<int64_t, 64> strides;  // torch::Tensor has at most 64 axes
    STD_TORCH_CHECK(shape.size() <= strides.size(), "physcon: expected at most 64 axes");
    int64_t stride = 1;
    for (std::size_t i = shape.size(); i-- > 0;) {
        strides[i] = stride;
        stride *= std::max<int64_t>(shape[i], 1);
    }
    int32_t device_type = 0, device_index = 0;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device_type));
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(like.get(), &device_index));
    AtenTensorHandle handle = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(
        static_cast<int64_t>(shape.size()),
        shape.data(),
        strides.data(),
        torch::stable::detail::to<int32_t>(torch::stable::detail::from(dtype)),
        device_type,
        device_index,
        &handle
    ));
    Tensor t(handle);
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

void refuse_dtype(const char* op, const Tensor& t) {
    const char* stored = t.scalar_type() == ScalarType::BFloat16 ? "torch.bfloat16"
                         : t.scalar_type() == ScalarType::Half   ? "torch.float16"
                                                                 : nullptr;
    std::string name = op, text = "another dtype";
    if (stored != nullptr) {
        const std::string adjoint = "_backward";
        name.erase(0, name.find("::") + 2);
        if (name.size() > adjoint.size() && name.rfind(adjoint) == name.size() - adjoint.size()) {
            name.resize(name.size() - adjoint.size());
        }
        text = stored + ("; physcon_ext.ops." + name) + " takes bfloat16 and float16";
    }
    STD_TORCH_CHECK(false, op, ": expected tensors of float32 or float64, got ", text);
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
    const auto found = given.sizes();
    const std::size_t axes = found.size(), batch_axes = axes - rest.size();
    const bool trailing =
        axes >= rest.size() && std::equal(rest.begin(), rest.end(), found.end() - rest.size());
    shared = trailing && may_be_shared && batch_axes == 0;
    STD_TORCH_CHECK(
        shared || (trailing && batch_axes == geometry.batch.size() &&
                   std::equal(geometry.batch.begin(), geometry.batch.end(), found.begin())),
        geometry.op,
        ": expected ",
        name,
        " to have shape ",
        describe(join(geometry.batch, rest)),
        ", got ",
        describe(shape_of(given))
    );
    STD_TORCH_CHECK(
        given.scalar_type() == mean.scalar_type(),
        geometry.op,
        ": expected ",
        name,
        " to have the dtype of mean"
    );
    STD_TORCH_CHECK(
        given.is_cuda() == mean.is_cuda() && given.get_device_index() == mean.get_device_index(),
        geometry.op,
        ": expected ",
        name,
        " to be on the device of mean"
    );
    // One item for the whole batch, or the batch axes collapse onto one stride: read in place.
    const auto strides = given.strides();
    int64_t inner = 1;
    bool dense = true, repeated = true;
    for (std::size_t axis = axes; axis-- > batch_axes;) {
        dense = dense && (found[axis] == 1 || strides[axis] == inner);
        inner *= found[axis];
    }
    for (std::size_t axis = 0; axis < batch_axes; ++axis) {
        repeated = repeated && (found[axis] == 1 || strides[axis] == 0);
    }
    if (dense && repeated) {
        return;
    }
    tensor = packed(given);
    stride = shared ? 0 : inner;
}

Tensor packed(const Tensor& t) {
    if (!t.is_contiguous()) {
        return torch::stable::contiguous(t);
    }
    constexpr std::uintptr_t run = 16;  // bytes that a CUDA kernel reads at once
    const bool aligned = reinterpret_cast<std::uintptr_t>(t.const_data_ptr()) % run == 0;
    return aligned || !t.is_cuda() ? t : torch::stable::clone(t);
}

Workspace::Workspace(std::size_t bytes)
    : data_(bytes <= sizeof(small_) ? small_ : ::operator new(bytes, std::align_val_t{alignment})) {
}

Workspace::~Workspace() {
    if (data_ != small_) {
        ::operator delete(data_, std::align_val_t{alignment});
    }
}

}  // namespace physcon::binding
