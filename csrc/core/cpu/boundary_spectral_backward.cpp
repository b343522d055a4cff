// SPDX-License-Identifier: Apache-2.0
// The adjoint of the stage between the transforms of the corrected convolution.
#include "boundary_axis.hpp"
#include "boundary_ends.hpp"
#include "boundary_outer.hpp"
#include "faces.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {
namespace {

/// The adjoint. With the mixings t = 1 .. n + 1 of n corrected axes, the gradients g_t of their
/// outputs and the shifts U_j of the axes,
///
///   dL/dW = X^H (g_1 + .. + g_{n+1}) + sum_j U_j^H (g_{j+1} + .. + g_{n+1}),
///
/// so going back over the axes needs one running sum of the g_t. On a line: boundary_outer.hpp.
template <typename T>
class Backward {
  public:
    Backward(
        const BoundarySpectralConvBackwardArgs<T>& a, const Executor& executor, void* workspace
    )
        : a_(a),
          executor_(executor),
          arena_(workspace),
          measuring_(workspace == nullptr),
          modes_(mode_count(a.grid)),
          stack_(corrected_axes(a.gains) + 1),
          line_(arena_, Normal(a.grid, 2)),
          term_(arena_, a.grid, a.grid.axes == 1 ? a.in : 0, a.out) {
        for (const FaceRule<T>& rule : a.rule) {
            faces_ = faces_ || rule.stencil != nullptr;
        }
        const int64_t numbers = 2 * modes_ * a.batch;
        // The result for the input, if it is large enough, is free until the end.
        const bool apart = faces_ && (a.x_out == nullptr || a.in < a.out);
        interior_ = arena_.take<T>(apart ? a.batch * a.out * point_count(a.grid) : 0);
        interior_ = apart ? interior_ : a.x_out;
        face_ends_ = arena_.take<double>(faces_ && a.grid.axes == 1 ? 2 * a.batch * a.out : 0);
        left_ = arena_.take<T>(stack_ > 1 ? stack_ * numbers * a.in : 0);
        right_ = arena_.take<T>(stack_ > 1 ? stack_ * numbers * a.out : 0);
        upstream_ = arena_.take<T>(numbers * a.out);
        pulled_ = arena_.take<T>(numbers * a.in);
        through_ = arena_.take<T>(stack_ > 2 ? numbers * a.in : 0);
        ends_ = arena_.take<double>(ends_size(a.grid, a.batch, larger(a.in, a.out)));

        analysis_ = transform(a.grid, a.tables, a.batch * a.out, true);
        analysis_.values = a.grad;
        analysis_.spectrum_out = upstream_;
        pull_ = mixing<T>(a);
        pull_.upstream = upstream_;
        pull_.input_gradient = pulled_;
        weigh_ = mixing<T>(a);
        weigh_.batch = stack_ * a.batch;
        weigh_.input = stack_ > 1 ? left_ : a.spectrum;
        weigh_.upstream = stack_ > 1 ? right_ : upstream_;
        weigh_.weight_gradient = a.weight_out;
        synthesis_ = transform(a.grid, a.tables, a.batch * a.in, false);
        synthesis_.spectrum = pulled_;
        synthesis_.values_out = a.x_out;
        const std::size_t mixings = larger(
            mix_adjoint<T>(pull_, executor, nullptr), mix_adjoint<T>(weigh_, executor, nullptr)
        );
        const std::size_t transforms = larger(
            analyse<T>(analysis_, executor, nullptr), synthesise<T>(synthesis_, executor, nullptr)
        );
        scratch_ = arena_.take<char>(static_cast<int64_t>(larger(mixings, transforms)));
    }

    std::size_t run() {
        if (!measuring_) {
            if (faces_) {
                pull_faces();
            } else {
                analyse(analysis_, executor_, scratch_);
            }
        }
        const double* behind = a_.shifts;
        for (int axis = 0; axis < 3; ++axis) {
            if (a_.gains.data[axis] != nullptr) {
                const Normal normal(a_.grid, axis);
                behind += Records(normal, a_.batch, a_.in, a_.out, nullptr).size();
            }
        }
        pull_axes(2, stack_ - 1, behind);
        return arena_.used();
    }

  private:
    /// The transform of the gradient with the faces pulled back.
    void pull_faces() {
        if (a_.grid.axes == 1 && pull_ends()) {
            return;
        }
        AssignFacesBackwardArgs<T> f;
        f.items = a_.batch;
        f.channels = a_.out;
        f.grad = a_.grad;
        f.output = interior_;
        for (int axis = 0; axis < 3; ++axis) {
            f.size[axis] = a_.grid.size[axis];
            f.rule[axis] = a_.rule[axis];
            f.gradient[axis] = a_.face_gradient[axis];
        }
        pull_back_faces(f, executor_);
        auto whole = analysis_;
        whole.values = interior_;
        analyse(whole, executor_, scratch_);
    }

    /// On a line the rule moves the gradient of each end to a few points: the change is added to
    /// the transform, and the gradient itself is read where it is. Not where an end is not finite,
    /// which the rule would have removed.
    bool pull_ends() {
        const FaceRule<T>& rule = a_.rule[2];
        const int64_t points = a_.grid.size[2], pitch = 2 * a_.out;
        analyse(analysis_, executor_, scratch_);
        run_indices(executor_, a_.batch, [&](int64_t, int64_t b) {
            const T* grad = a_.grad + b * a_.out * points;
            double* to = face_ends_ + b * pitch;
            for (int64_t c = 0; c < a_.out; ++c, grad += points) {
                to[c] = static_cast<double>(grad[0]);
                to[a_.out + c] = static_cast<double>(grad[points - 1]);
            }
        });
        double total = 0;
        for (int64_t i = 0; i < a_.batch * pitch; ++i) {
            total += face_ends_[i] - face_ends_[i];
        }
        if (!(total == 0)) {
            return false;
        }
        if (a_.face_gradient[2].values != nullptr) {
            AssignFacesBackwardArgs<T> f;
            f.items = a_.batch;
            f.channels = a_.out;
            f.gradient[2] = a_.face_gradient[2];
            f.rule[2] = rule;
            run_indices(executor_, a_.batch, [&](int64_t, int64_t b) {
                const double* from = face_ends_ + b * pitch;
                T* to = f.gradient[2].values + b * pitch;
                for (int64_t c = 0; c < a_.out; ++c) {
                    to[2 * c] = static_cast<T>(from[c]);
                    to[2 * c + 1] = static_cast<T>(from[a_.out + c]);
                }
            });
            sum_face_gradients(f, executor_);
        }
        const Normal normal(a_.grid, 2);
        const Spectrum<T> spectrum = {upstream_, a_.batch, a_.out};
        const Spectrum<const T> upstream = {upstream_, a_.batch, a_.out};
        for (int64_t j = 0; j < rule.width; ++j) {
            // Moves s_j g to point j, and takes g away from where it was.
            const double first = rule.stencil[j] - (j == 0 ? 1 : 0),
                         last = rule.stencil[rule.width + j] - (j == 0 ? 1 : 0);
            if (first == 0 && last == 0) {
                continue;
            }
            double* ends = ends_ + pitch * a_.batch;  // behind the scratch of `radiate_line`
            run_indices(executor_, a_.batch, [&](int64_t, int64_t b) {
                const double* from = face_ends_ + b * pitch;
                double* to = ends + b * pitch;
                for (int64_t c = 0; c < a_.out; ++c) {
                    to[c] = first * from[c];
                    to[a_.out + c] = last * from[a_.out + c];
                }
            });
            line_.fill(normal, j);
            radiate_line<T>(
                ends, pitch, line_, normal.modes, true, upstream, spectrum, ends_, executor_
            );
        }
        return true;
    }

    /// Back through `axis` and those before it, then through the transforms. `slot` counts the
    /// corrected axes that remain, `behind` is where the records of the next one end.
    void pull_axes(int axis, int64_t slot, const double* behind) {
        if (axis < 0) {
            finish();
            return;
        }
        if (a_.gains.data[axis] == nullptr) {
            pull_axes(axis - 1, slot, behind);
            return;
        }
        const Correction<T> c(
            arena_, a_.grid, axis, a_.batch, a_.in, a_.out, a_.gains, nullptr, executor_
        );
        Records seen = c.records, grad = c.records;
        grad.data = arena_.take<double>(grad.size());
        if (!measuring_) {
            // The records are read only; one type serves both directions.
            seen.data = const_cast<double*>(behind) - seen.size();
            behind = seen.data;
            c.fill(executor_);
            pull_axis(c, seen, grad, slot);
        }
        pull_axes(axis - 1, slot - 1, behind);
        if (!measuring_ && a_.x_out != nullptr) {
            if (c.on_line()) {
                c.lines.add_line(grad.data, grad.length(), a_.x_out, executor_);
            } else {
                grad.get(ends_, 2 * a_.in, 0, executor_);
                c.lines.add_adjoint(ends_, a_.x_out, executor_);
            }
        }
    }

    void pull_axis(const Correction<T>& c, const Records& seen, const Records& grad, int64_t slot) {
        const Normal& normal = c.normal;
        const Spectrum<T> upstream = {upstream_, a_.batch, a_.out};
        const Spectrum<T> through = {through_, a_.batch, a_.in};
        const auto constant = [](const Spectrum<T>& s) {
            return Spectrum<const T>{s.data, s.batch, s.channels, s.stack, s.slot};
        };
        mix_adjoint(pull_, executor_, scratch_);
        c.evaluate({pulled_, a_.batch, a_.in}, false, grad, grad.shifts(), ends_, executor_);
        if (slot < stack_ - 1) {  // later axes saw the shifts of this one in their end lines
            c.evaluate(constant(through), false, grad, 0, ends_, executor_);
            run_indices(executor_, normal.others * a_.batch, [&](int64_t, int64_t row) {
                double* record = grad.data + row * grad.length();
                for (int64_t i = 0; i < grad.moved(); ++i) {
                    record[grad.shifts() + i] += record[i];
                }
            });
        }
        if (a_.gain_out[normal.axis] != nullptr) {
            c.gains.gradient(seen, grad, a_.gain_out[normal.axis], executor_);
        }
        c.gains.apply_adjoint(grad, executor_);
        if (a_.weight_out != nullptr) {
            keep_factors(c, seen, grad, slot);
        }
        c.radiate(grad, grad.outputs(), true, constant(upstream), upstream, ends_, executor_);
        if (slot > 1) {
            const Spectrum<const T> before = {
                slot == stack_ - 1 ? nullptr : through_, a_.batch, a_.in
            };
            c.radiate(grad, 0, true, before, through, ends_, executor_);
        }
    }

    /// What the gradient of the weights needs of this axis, before the ends change the upstream.
    void keep_factors(
        const Correction<T>& c, const Records& seen, const Records& grad, int64_t slot
    ) {
        const Spectrum<const T> spectrum = {a_.spectrum, a_.batch, a_.in};
        const Spectrum<const T> upstream = {upstream_, a_.batch, a_.out};
        shared_ = c.on_line() && is_mild(spectrum, upstream, seen, grad, c.phases);
        if (shared_) {
            const Spectrum<T> sum = {left_, a_.batch, a_.in};
            c.radiate(seen, seen.shifts(), false, spectrum, sum, ends_, executor_);
            term_.fill(seen, grad, c.phases, executor_);
            return;
        }
        const Spectrum<T> shift = {left_, a_.batch, a_.in, stack_, slot};
        const Spectrum<const T> none = {nullptr, a_.batch, a_.in};
        c.radiate(seen, seen.shifts(), false, none, shift, ends_, executor_);
        stack_rows(upstream_, right_, a_.out, slot);
    }

    void finish() {
        if (measuring_) {
            return;
        }
        if (stack_ > 1 && !shared_ && a_.weight_out != nullptr) {
            stack_rows(a_.spectrum, left_, a_.in, 0);
            stack_rows(upstream_, right_, a_.out, 0);
            mix_adjoint(weigh_, executor_, scratch_);
        } else {
            pull_.input = weigh_.input;  // of one block, if any
            pull_.weight_gradient = a_.weight_out;
        }
        if (a_.x_out == nullptr) {
            pull_.input_gradient = nullptr;
        }
        const WeightTerm<T> term = term_.view();
        mix_adjoint(pull_, executor_, scratch_, shared_ ? &term : nullptr);
        if (a_.x_out != nullptr) {
            synthesise(synthesis_, executor_, scratch_);
        }
    }

    void stack_rows(const T* from, T* to, int64_t channels, int64_t slot) const {
        run_indices(executor_, modes_, [&](int64_t, int64_t mode) {
            const int64_t length = 2 * a_.batch * channels;
            __builtin_memcpy(
                to + (mode * stack_ + slot) * length,
                from + mode * length,
                static_cast<std::size_t>(length) * sizeof(T)
            );
        });
    }

    const BoundarySpectralConvBackwardArgs<T>& a_;
    const Executor& executor_;
    Arena arena_;
    bool measuring_, faces_ = false;
    bool shared_ = false;  ///< the gradient of the weights is that of boundary_outer.hpp
    int64_t modes_, stack_;
    Phases line_;
    EndTerm<T> term_;
    T *interior_, *left_, *right_, *upstream_, *pulled_, *through_;
    double *ends_, *face_ends_;
    void* scratch_;
    SpectralTransformArgs<T> analysis_, synthesis_;
    SpectralMixArgs<T> pull_, weigh_;
};

}  // namespace

template <typename T>
std::size_t boundary_spectral_conv_backward_workspace(
    const BoundarySpectralConvBackwardArgs<T>& args, const Executor& executor
) {
    return Backward<T>(args, executor, nullptr).run();
}
template <typename T>
void boundary_spectral_conv_backward(
    const BoundarySpectralConvBackwardArgs<T>& args, const Executor& executor, void* workspace
) {
    Backward<T>(args, executor, workspace).run();
}

#define PHYSCON_INSTANTIATE(T)                                             \
    template std::size_t boundary_spectral_conv_backward_workspace(        \
        const BoundarySpectralConvBackwardArgs<T>&, const Executor&        \
    );                                                                     \
    template void boundary_spectral_conv_backward(                         \
        const BoundarySpectralConvBackwardArgs<T>&, const Executor&, void* \
    );
PHYSCON_INSTANTIATE(float)
PHYSCON_INSTANTIATE(double)

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
