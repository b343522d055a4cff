// SPDX-License-Identifier: Apache-2.0
#include "faces.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {
namespace {

/// One axis of a plane: its faces are `count[0] x count[1]` points.
struct Line {
    int64_t points, step, count[2], stride[2];
    Line(const int64_t (&size)[3], int axis) : points(size[axis]), step(1) {
        const int64_t strides[3] = {size[1] * size[2], size[2], 1};
        step = strides[axis];
        const int first = axis == 0 ? 1 : 0, second = axis == 2 ? 1 : 2;
        count[0] = size[first];
        count[1] = size[second];
        stride[0] = strides[first];
        stride[1] = strides[second];
    }
    /// First or last point of the line through (i, j).
    int64_t face(int end, int64_t i, int64_t j) const {
        return (end == 0 ? 0 : (points - 1) * step) + i * stride[0] + j * stride[1];
    }
    int64_t inwards(int end) const {
        return end == 0 ? step : -step;
    }
};

bool is_zero(const double* row, int64_t count) {
    for (int64_t j = 0; j < count; ++j) {
        if (row[j] != 0) {
            return false;
        }
    }
    return true;
}

template <typename T>
void assign(T* plane, const T* values, const FaceRule<T>& rule, const Line& line) {
    for (int end = 0; end < 2; ++end) {
        const double* s = rule.stencil + end * rule.width;
        const bool constant = is_zero(s, rule.width);
        const int64_t inwards = line.inwards(end);
        for (int64_t i = 0; i < line.count[0]; ++i) {
            for (int64_t j = 0; j < line.count[1]; ++j) {
                T* face = plane + line.face(end, i, j);
                const T value = values[end * rule.end + i * rule.tangent[0] + j * rule.tangent[1]];
                if (constant) {
                    *face = value;
                    continue;
                }
                double sum = static_cast<double>(value);
                for (int64_t k = 0; k < rule.width; ++k) {
                    sum += s[k] * static_cast<double>(face[k * inwards]);
                }
                *face = static_cast<T>(sum);
            }
        }
    }
}

/// `values` (2, other sizes) receives the gradient of the data, unless it is null.
template <typename T>
void assign_adjoint(T* plane, T* values, const FaceRule<T>& rule, const Line& line) {
    for (int end = 0; end < 2; ++end) {
        const double* s = rule.stencil + end * rule.width;
        const int64_t inwards = line.inwards(end);
        for (int64_t i = 0; i < line.count[0]; ++i) {
            for (int64_t j = 0; j < line.count[1]; ++j) {
                T* face = plane + line.face(end, i, j);
                const T grad = *face;
                if (values != nullptr) {
                    values[(end * line.count[0] + i) * line.count[1] + j] = grad;
                }
                *face = 0;
                for (int64_t k = 0; k < rule.width; ++k) {
                    if (s[k] != 0) {
                        T* point = face + k * inwards;
                        *point = static_cast<T>(*point + s[k] * static_cast<double>(grad));
                    }
                }
            }
        }
    }
}

/// Sums over the axes of extent 1, in their order, in double precision.
template <typename T>
void reduce(const FaceGradient<T>& gradient, const int64_t (&size)[5], const Executor& executor) {
    const int64_t (&extent)[5] = gradient.extent;
    int64_t count = 1, stride[5], step = 1;
    for (int a = 4; a >= 0; --a) {
        stride[a] = step;
        step *= size[a];
        count *= extent[a];
    }
    run_indices(executor, count, [&](int64_t, int64_t index) {
        int64_t begin[5], end[5], rest = index;
        for (int a = 4; a >= 0; --a) {
            const bool kept = extent[a] == size[a];
            begin[a] = kept ? rest % extent[a] : 0;
            end[a] = kept ? begin[a] + 1 : size[a];
            rest /= extent[a];
        }
        double sum = 0;
        for (int64_t i = begin[0]; i < end[0]; ++i) {
            for (int64_t c = begin[1]; c < end[1]; ++c) {
                for (int64_t e = begin[2]; e < end[2]; ++e) {
                    for (int64_t p = begin[3]; p < end[3]; ++p) {
                        const T* row = gradient.values + i * stride[0] + c * stride[1] +
                                       e * stride[2] + p * stride[3];
                        for (int64_t q = begin[4]; q < end[4]; ++q) {
                            sum += static_cast<double>(row[q]);
                        }
                    }
                }
            }
        }
        gradient.summed[index] = static_cast<T>(sum);
    });
}

}  // namespace

template <typename T>
void store_faces(const AssignFacesArgs<T>& args, const Executor& executor) {
    const int64_t points = args.size[0] * args.size[1] * args.size[2];
    run_indices(executor, args.items * args.channels, [&](int64_t, int64_t index) {
        T* plane = args.output + index * points;
        if (args.input != args.output) {
            __builtin_memcpy(
                plane, args.input + index * points, static_cast<std::size_t>(points) * sizeof(T)
            );
        }
        for (int axis = 0; axis < 3; ++axis) {
            const FaceRule<T>& rule = args.rule[axis];
            if (rule.stencil != nullptr) {
                const int64_t item = index / args.channels, channel = index % args.channels;
                const T* values = rule.values + item * rule.item + channel * rule.channel;
                assign(plane, values, rule, Line(args.size, axis));
            }
        }
    });
}

template <typename T>
void pull_back_faces(const AssignFacesBackwardArgs<T>& args, const Executor& executor) {
    const int64_t points = args.size[0] * args.size[1] * args.size[2];
    run_indices(executor, args.items * args.channels, [&](int64_t, int64_t index) {
        T* plane = args.output + index * points;
        if (args.grad != args.output) {
            __builtin_memcpy(
                plane, args.grad + index * points, static_cast<std::size_t>(points) * sizeof(T)
            );
        }
        for (int axis = 2; axis >= 0; --axis) {
            const FaceRule<T>& rule = args.rule[axis];
            if (rule.stencil != nullptr) {
                const Line line(args.size, axis);
                T* values = args.gradient[axis].values;
                if (values != nullptr) {
                    values += index * 2 * line.count[0] * line.count[1];
                }
                assign_adjoint(plane, values, rule, line);
            }
        }
    });
    sum_face_gradients(args, executor);
}

template <typename T>
void sum_face_gradients(const AssignFacesBackwardArgs<T>& args, const Executor& executor) {
    for (int axis = 0; axis < 3; ++axis) {
        const FaceGradient<T>& gradient = args.gradient[axis];
        if (args.rule[axis].stencil != nullptr && gradient.summed != nullptr) {
            const Line line(args.size, axis);
            reduce(
                gradient, {args.items, args.channels, 2, line.count[0], line.count[1]}, executor
            );
        }
    }
}

template <typename T>
void assign_faces(const AssignFacesArgs<T>& args, const Executor& executor) {
    store_faces(args, executor);
}
template <typename T>
void assign_faces_backward(const AssignFacesBackwardArgs<T>& args, const Executor& executor) {
    pull_back_faces(args, executor);
}

#define PHYSCON_INSTANTIATE(T)                                                            \
    template void store_faces(const AssignFacesArgs<T>&, const Executor&);                \
    template void pull_back_faces(const AssignFacesBackwardArgs<T>&, const Executor&);    \
    template void sum_face_gradients(const AssignFacesBackwardArgs<T>&, const Executor&); \
    template void assign_faces(const AssignFacesArgs<T>&, const Executor&);               \
    template void assign_faces_backward(const AssignFacesBackwardArgs<T>&, const Executor&);
PHYSCON_INSTANTIATE(float)
PHYSCON_INSTANTIATE(double)

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
