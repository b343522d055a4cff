// SPDX-License-Identifier: Apache-2.0
// Finite volumes, one item at a time, vectors along the inner axis.
//
// Time: Shu and Osher 1988, written so that one set of face fluxes makes the whole step; Meyer,
// Balsara and Aslam 2014 (RKL2); Bank et al. 1985 (TR-BDF2). Cells and flux integrals carry their
// rounding rest along (Knuth's two-sum), so that the balance of many steps is as good as that of
// one.
#include "../fv.hpp"

#include "fv_diffusion.hpp"
#include "fv_transport.hpp"
#include "parallel.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {
namespace {

constexpr int64_t ghosts = 3;  // cells beyond an edge that WENO5 reads
constexpr int64_t margin = 8;  // doubles before the first cell of a row, >= ghosts
constexpr int newton_limit = 60;
// Fluxes are added up plainly over this many steps before the sum joins the compensated one: 16 eps
// of the sum at worst.
constexpr int plain_steps = 32;

/// Face fluxes along both axes and the amplitudes of the sources: all that changes cells.
struct Rates {
    double *inner, *outer;
    double source[most_source_terms];
};

/// Where things are. Cells (row, i) sit at row * pitch + i, with `ghosts` rows and `margin` cells
/// around them; faces likewise, without ghosts.
struct Layout {
    int64_t rows, n, pitch, cells, inner_faces, outer_faces;
    explicit Layout(const BalanceLawArgs& a)
        : rows(a.rows),
          n(a.n),
          pitch(round_up(a.n + 1 + ghosts, width<double>) + margin + width<double>),
          cells((a.rows + (a.planar ? 2 * ghosts : 0)) * pitch + width<double>),
          inner_faces(a.rows * pitch + width<double>),
          outer_faces(a.planar ? (a.rows + 1) * pitch + width<double> : 0) {}
};

class Item {
  public:
    Item(const BalanceLawArgs& args, Arena& arena)
        : a_(args),
          l_(args),
          transport_(
              a_.transport == Transport::burgers
                  ? transport_loops<Transport::burgers>(a_.reconstruction)
                  : transport_loops<Transport::linear>(a_.reconstruction)
          ),
          diffusive_(diffusive_faces(a_.average)),
          integral_(a_.average == FaceAverage::integral || a_.average == FaceAverage::shock),
          on_a_line_(
              !a_.planar && a_.terms == 0 && a_.transport != Transport::none &&
              a_.diffusivity == Diffusivity::none && a_.edges[0].kind != EdgeKind::flux &&
              a_.edges[1].kind != EdgeKind::flux &&
              (a_.integrator == Integrator::euler || a_.integrator == Integrator::ssprk2 ||
               a_.integrator == Integrator::ssprk3)
          ) {
        const auto cells = [&] {
            double* base = arena.take<double>(l_.cells);
            return base == nullptr ? base : base + margin + (a_.planar ? ghosts * l_.pitch : 0);
        };
        u_ = cells();
        low_ = cells();
        v_ = cells();
        coefficient_ = cells();
        if (a_.integrator == Integrator::verlet) {
            w_ = cells();
            w_low_ = cells();
        }
        if (on_a_line_) {
            start_ = cells();
        }
        for (int i = 0; i < rates_used(); ++i) {
            Rates& r = rates_[i];
            r.inner = arena.take<double>(l_.inner_faces);
            r.outer = arena.take<double>(l_.outer_faces);
        }
        for (Rates& r : sums_) {
            r.inner = arena.take<double>(l_.inner_faces);
            r.outer = arena.take<double>(l_.outer_faces);
        }
        if (implicit()) {
            for (double*& band : bands_) {
                band = arena.take<double>(l_.pitch);
            }
        }
    }

    void run(int64_t b) {
        b_ = b;
        dt_ = a_.dt[b];
        k_ = Coefficient(a_.diffusivity, a_.diffusion.item(b));
        failures_ = 0;
        read();
        const int64_t steps = a_.steps[b];
        for (int64_t step = 0; step < steps; ++step) {
            step_ = step;
            if (on_a_line_) {
                advance_line();
            } else {
                advance();
            }
            if (step % plain_steps == plain_steps - 1) {
                settle();
            }
        }
        settle();
        write();
    }

  private:
    int rates_used() const {
        return a_.integrator == Integrator::rkl2 ? 4 : 2;
    }
    bool implicit() const {
        return a_.integrator == Integrator::backward_euler || a_.integrator == Integrator::tr_bdf2;
    }

    // Cells in and out.

    void read() {
        const double* state = a_.state.item(b_);
        const int64_t size = l_.rows * l_.n;
        clear_cells(u_);
        clear_cells(low_);
        clear_cells(v_);
        clear_cells(coefficient_);
        copy_in(state, u_);
        copy_in(state + size, low_);
        if (a_.integrator == Integrator::verlet) {
            clear_cells(w_);
            clear_cells(w_low_);
            copy_in(state + 2 * size, w_);
            copy_in(state + 3 * size, w_low_);
        }
        for (int i = 0; i < rates_used(); ++i) {
            clear_rates(rates_[i]);
        }
        for (Rates& r : sums_) {
            clear_rates(r);
        }
        if (on_a_line_) {
            clear_cells(start_);
            copy_in(state, start_);
        }
        front_ = 0;
        fresh_ = false;
    }
    void write() const {
        const int64_t size = l_.rows * l_.n, fields = a_.fields();
        double* out = a_.state_out + b_ * 2 * fields * size;
        copy_out(u_, out);
        copy_out(low_, out + size);
        if (fields == 2) {
            copy_out(w_, out + 2 * size);
            copy_out(w_low_, out + 3 * size);
        }
        for (int64_t r = 0; r < l_.rows; ++r) {
            double* to = a_.inner_flux_out + (b_ * l_.rows + r) * (l_.n + 1);
            for (int64_t i = 0; i <= l_.n; ++i) {
                to[i] = sums_[0].inner[r * l_.pitch + i];
            }
        }
        for (int64_t r = 0; a_.planar && r <= l_.rows; ++r) {
            double* to = a_.outer_flux_out + (b_ * (l_.rows + 1) + r) * l_.n;
            for (int64_t i = 0; i < l_.n; ++i) {
                to[i] = sums_[0].outer[r * l_.pitch + i];
            }
        }
        for (int64_t t = 0; t < a_.terms; ++t) {
            a_.source_out[b_ * a_.terms + t] = sums_[0].source[t] + sums_[1].source[t];
        }
        a_.info_out[b_] = failures_;
    }
    void clear_cells(double* x) const {
        double* base = x - margin - (a_.planar ? ghosts * l_.pitch : 0);
        for (int64_t i = 0; i < l_.cells; ++i) {
            base[i] = 0;
        }
    }
    void clear_rates(Rates& r) const {
        for (int64_t i = 0; i < l_.inner_faces; ++i) {
            r.inner[i] = 0;
        }
        for (int64_t i = 0; i < l_.outer_faces; ++i) {
            r.outer[i] = 0;
        }
        for (double& s : r.source) {
            s = 0;
        }
    }
    void copy_in(const double* from, double* to) const {
        for (int64_t r = 0; r < l_.rows; ++r) {
            for (int64_t i = 0; i < l_.n; ++i) {
                to[r * l_.pitch + i] = from[r * l_.n + i];
            }
        }
    }
    void copy_out(const double* from, double* to) const {
        for (int64_t r = 0; r < l_.rows; ++r) {
            for (int64_t i = 0; i < l_.n; ++i) {
                to[r * l_.n + i] = from[r * l_.pitch + i];
            }
        }
    }

    // Edges.

    double edge_data(const Edge& e, int64_t stage, int64_t j) const {
        return has_data(e) ? e.at(b_, step_, stage, j) : 0.0;
    }

    /// Fills the ghost cells of one line of cells: `first` is its cell next to the edge, `inward`
    /// the distance to the next one, `last` the cell next to the opposite edge.
    void fill_ghosts(
        double* first,
        int64_t inward,
        const double* last,
        const Edge& e,
        int64_t stage,
        int64_t j,
        double h
    ) const {
        const double u0 = first[0], u1 = first[inward];
        const double w = edge_value(e, edge_data(e, stage, j), u0, u1, h);
        const bool diffusive = a_.diffusivity != Diffusivity::none;
        for (int64_t k = 1; k <= ghosts; ++k) {
            const double mirrored = first[(k - 1) * inward], opposite = last[-(k - 1) * inward];
            first[-k * inward] = ghost_value(e.kind, diffusive, w, u0, mirrored, opposite);
        }
    }
    void fill_all_ghosts(double* v, int64_t stage) const {
        for (int64_t r = 0; r < l_.rows; ++r) {
            double *low = v + r * l_.pitch, *high = low + l_.n - 1;
            fill_ghosts(low, 1, high, a_.edges[0], stage, r, a_.inner_spacing);
            fill_ghosts(high, -1, low, a_.edges[1], stage, r, a_.inner_spacing);
        }
        for (int64_t i = 0; a_.planar && i < l_.n; ++i) {
            double *low = v + i, *high = v + (l_.rows - 1) * l_.pitch + i;
            fill_ghosts(low, l_.pitch, high, a_.edges[2], stage, i, a_.outer_spacing);
            fill_ghosts(high, -l_.pitch, low, a_.edges[3], stage, i, a_.outer_spacing);
        }
    }

    /// Completes the flux of the face on one edge; it holds the transport of the Riemann problem.
    void close_edge(
        const double* first,
        int64_t inward,
        const double* last,
        const Edge& e,
        int64_t stage,
        int64_t j,
        double h,
        double speed,
        double outward,
        double& face
    ) const {
        const double u0 = first[0], u1 = first[inward], g = edge_data(e, stage, j);
        if (e.kind == EdgeKind::flux) {
            face = g;
        } else if (e.kind == EdgeKind::periodic) {
            if (a_.diffusivity != Diffusivity::none) {
                double pair[2] = {last[0], u0};  // in the order of the outward normal
                if (outward > 0) {
                    pair[0] = u0;
                    pair[1] = last[0];
                }
                face += face_diffusion(pair[0], pair[1], h);
            }
        } else if (a_.diffusivity != Diffusivity::none && e.kind != EdgeKind::outflow) {
            const double w = edge_value(e, g, u0, u1, h);
            // With diffusion the value on the face is known, and so is what it transports.
            face = known_transport(a_.transport, speed, w) +
                   outward * outward_diffusion(k_, e, g, w, u0, u1, h);
        }
    }
    double face_diffusion(double left, double right, double h) const {
        double padded[2 * width<double>] = {}, c[2 * width<double>] = {}, flux[width<double>] = {};
        padded[0] = left;
        padded[1] = right;
        c[0] = integral_ ? k_.primitive(left) : k_.value(left);
        c[1] = integral_ ? k_.primitive(right) : k_.value(right);
        diffusive_(padded + 1, c + 1, 1, 1, h, flux);
        return flux[0];
    }
    void close_edges(const double* v, int64_t stage, Rates& out) const {
        const double* speed = a_.transport == Transport::none ? no_speed : a_.speed.item(b_);
        for (int64_t r = 0; r < l_.rows; ++r) {
            const double *low = v + r * l_.pitch, *high = low + l_.n - 1;
            double* face = out.inner + r * l_.pitch;
            const double h = a_.inner_spacing;
            close_edge(low, 1, high, a_.edges[0], stage, r, h, speed[0], -1, face[0]);
            close_edge(high, -1, low, a_.edges[1], stage, r, h, speed[0], 1, face[l_.n]);
        }
        for (int64_t i = 0; a_.planar && i < l_.n; ++i) {
            const double *low = v + i, *high = v + (l_.rows - 1) * l_.pitch + i;
            double* face = out.outer + i;
            const double h = a_.outer_spacing;
            const int64_t p = l_.pitch, last = l_.rows * p;
            close_edge(low, p, high, a_.edges[2], stage, i, h, speed[1], -1, face[0]);
            close_edge(high, -p, low, a_.edges[3], stage, i, h, speed[1], 1, face[last]);
        }
    }

    // Rates of change.

    void rates(double* v, int64_t stage, Rates& out) {
        for (int64_t t = 0; t < a_.terms; ++t) {
            out.source[t] = a_.amplitudes.at(b_, step_, stage, t);
        }
        if (a_.average == FaceAverage::shock) {
            front_rates(v, stage, out);
            return;
        }
        transport(v, stage, out);
        diffusion(v, out);
        close_edges(v, stage, out);
    }
    void transport(double* v, int64_t stage, Rates& out) {
        if (a_.transport == Transport::none) {
            for (int64_t i = 0; i < l_.rows * l_.pitch; ++i) {
                out.inner[i] = 0;
            }
            for (int64_t i = 0; i < l_.outer_faces; ++i) {
                out.outer[i] = 0;
            }
            return;
        }
        fill_all_ghosts(v, stage);
        const double* speed = a_.speed.item(b_);
        for (int64_t r = 0; r < l_.rows; ++r) {
            const int64_t at = r * l_.pitch;
            transport_.faces(v + at, 1, l_.n + 1, speed[0], out.inner + at);
        }
        for (int64_t r = 0; a_.planar && r <= l_.rows; ++r) {
            const int64_t at = r * l_.pitch;
            transport_.faces(v + at, l_.pitch, l_.n, speed[1], out.outer + at);
        }
    }
    void diffusion(const double* v, Rates& out) {
        if (a_.diffusivity == Diffusivity::none) {
            return;
        }
        for (int64_t r = 0; r < l_.rows; ++r) {
            const double* from = v + r * l_.pitch;
            double* to = coefficient_ + r * l_.pitch;
            sweep(l_.n, [&](auto full, int64_t i, int lanes) {
                constexpr bool whole = decltype(full)::value;
                const Real u = load(from + i);
                store_lanes<whole>(to + i, integral_ ? k_.primitive(u) : k_.value(u), lanes);
            });
            const int64_t at = r * l_.pitch;
            diffusive_(v + at + 1, to + 1, 1, l_.n - 1, a_.inner_spacing, out.inner + at + 1);
        }
        for (int64_t r = 1; a_.planar && r < l_.rows; ++r) {
            const int64_t at = r * l_.pitch;
            diffusive_(v + at, coefficient_ + at, l_.pitch, l_.n, a_.outer_spacing, out.outer + at);
        }
    }

    /// Stefan problem with the front at x* = (c + theta) h inside cell c, found from the average of
    /// that cell: a line from the centre of cell c - 1 to the threshold at x*, nothing behind x*.
    /// One dimension, one front, moving to the right into empty cells.
    void front_rates(const double* v, int64_t stage, Rates& out) {
        const double h = a_.inner_spacing, k = k_.largest(), u_star = k_.threshold();
        const double g = edge_data(a_.edges[0], stage, 0);
        double* face = out.inner;
        double theta = 0;
        for (; front_ < l_.n; ++front_) {
            theta = share_of_cell(v, front_, g);
            if (theta < 1) {
                break;
            }
        }
        for (int64_t i = 0; i <= l_.n; ++i) {
            face[i] = 0;
        }
        diffusion(v, out);  // the threshold stops it at the front; the face at the front is redone
        close_edges(v, stage, out);
        if (front_ == l_.n) {
            return;
        }
        for (int64_t i = front_ + 1; i <= l_.n; ++i) {
            face[i] = 0;
        }
        if (front_ > 0) {
            face[front_] = k * (v[front_ - 1] - u_star) / ((0.5 + theta) * h);
        } else if (a_.edges[0].kind == EdgeKind::value) {
            face[0] = first_front_flux(k, u_star, g, theta, h, dt_);
        }
    }
    double share_of_cell(const double* v, int64_t c, double g) const {
        const bool fixed = a_.edges[0].kind == EdgeKind::value;
        return c == 0 ? first_front_share(k_.threshold(), fixed, g, v[0])
                      : front_share(k_.threshold(), v[c - 1], v[c]);
    }

    // Steps. All of them end with finish(rates that made the step).

    /// out = a * out + b * in.
    void blend(double a, Rates& out, double b, const Rates& in) const {
        const auto mix = [&](double* to, const double* from, int64_t count) {
            sweep(count, [&](auto full, int64_t i, int lanes) {
                constexpr bool whole = decltype(full)::value;
                store_lanes<whole>(to + i, a * load(to + i) + b * load(from + i), lanes);
            });
        };
        mix(out.inner, in.inner, l_.rows * l_.pitch);
        if (a_.planar) {
            mix(out.outer, in.outer, (l_.rows + 1) * l_.pitch);
        }
        for (int64_t t = 0; t < a_.terms; ++t) {
            out.source[t] = a * out.source[t] + b * in.source[t];
        }
    }
    /// body(full, cell, lanes, change) with change = scale * du/dt of the rates.
    template <typename Body>
    void changes(double scale, const Rates& r, Body&& body) const {
        const double inner = scale / a_.inner_spacing, outer = scale / a_.outer_spacing;
        const double* shapes = a_.terms == 0 ? nullptr : a_.shapes.item(b_);
        const int64_t size = l_.rows * l_.n;
        for (int64_t row = 0; row < l_.rows; ++row) {
            const int64_t at = row * l_.pitch;
            sweep(l_.n, [&](auto full, int64_t i, int lanes) {
                constexpr bool whole = decltype(full)::value;
                const double* f = r.inner + at + i;
                Real change = inner * (load(f) - load(f + 1));
                if (a_.planar) {
                    const double* g = r.outer + at + i;
                    change += outer * (load(g) - load(g + l_.pitch));
                }
                for (int64_t t = 0; t < a_.terms; ++t) {
                    const double* shape = shapes + t * size + row * l_.n + i;
                    change += scale * r.source[t] * load_lanes<whole>(shape, lanes);
                }
                body(full, at + i, lanes, change);
            });
        }
    }
    /// v = u + scale * du/dt.
    void stage(double scale, const Rates& r) {
        changes(scale, r, [&](auto full, int64_t i, int lanes, Real change) {
            store_lanes<decltype(full)::value>(v_ + i, load(u_ + i) + change, lanes);
        });
    }
    void add_changes(double scale, const Rates& r, double* high, double* low) {
        changes(scale, r, [&](auto full, int64_t i, int lanes, Real change) {
            constexpr bool whole = decltype(full)::value;
            Real h = load(high + i), rest = load(low + i);
            add_exactly(h, rest, change);
            store_lanes<whole>(high + i, h, lanes);
            store_lanes<whole>(low + i, rest, lanes);
        });
    }
    /// Adds scale * rates to the plain sum.
    void integrate(double scale, const Rates& r) {
        blend(1, sums_[2], scale, r);
    }
    /// Moves the plain sum to the compensated one.
    void settle() {
        if (on_a_line_) {
            settle_line();
            return;
        }
        const auto move = [&](double* high, double* low, double* plain, int64_t count) {
            sweep(count, [&](auto full, int64_t i, int lanes) {
                constexpr bool whole = decltype(full)::value;
                Real h = load(high + i), rest = load(low + i);
                add_exactly(h, rest, load(plain + i));
                store_lanes<whole>(high + i, h, lanes);
                store_lanes<whole>(low + i, rest, lanes);
                store_lanes<whole>(plain + i, Real{}, lanes);
            });
        };
        move(sums_[0].inner, sums_[1].inner, sums_[2].inner, l_.rows * l_.pitch);
        if (a_.planar) {
            move(sums_[0].outer, sums_[1].outer, sums_[2].outer, (l_.rows + 1) * l_.pitch);
        }
        for (int64_t t = 0; t < a_.terms; ++t) {
            DoubleDouble sum{sums_[0].source[t], sums_[1].source[t]};
            sum.add(sums_[2].source[t]);
            sums_[0].source[t] = sum.high;
            sums_[1].source[t] = sum.low;
            sums_[2].source[t] = 0;
        }
    }
    void finish(const Rates& r) {
        add_changes(dt_, r, u_, low_);
        integrate(dt_, r);
    }

    void advance() {
        Rates &f = rates_[0], &g = rates_[1];
        switch (a_.integrator) {
            case Integrator::euler:
                rates(u_, 0, g);
                break;
            case Integrator::ssprk2:
                rates(u_, 0, g);
                stage(dt_, g);
                rates(v_, 1, f);
                blend(0.5, g, 0.5, f);
                break;
            case Integrator::ssprk3:
                rates(u_, 0, g);
                stage(dt_, g);
                rates(v_, 1, f);
                blend(1, g, 1, f);
                stage(0.25 * dt_, g);
                rates(v_, 2, f);
                blend(1.0 / 6, g, 2.0 / 3, f);
                break;
            case Integrator::rkl2:
                legendre(g);
                break;
            case Integrator::backward_euler:
                copy_cells(u_, v_);
                solve(dt_, 0, g);
                break;
            case Integrator::tr_bdf2:
                tr_bdf2(g);
                break;
            case Integrator::verlet:
                verlet();
                return;
        }
        finish(g);
    }

    // Transport alone on a line. Sums of the last few steps are kept over the strength, and cells
    // are what the sums make of those at their start: one rounding however many the steps, and what
    // the cells change by is what the sums say.

    /// Rates and plain sums by face, placed so that the second face begins a vector as the first
    /// cell does.
    double* on_line(const Rates& r) const {
        return r.inner + (width<double> - 1);
    }
    double line_strength() const {
        return dt_ * strength(a_.transport, a_.speed.item(b_)[0]);
    }
    void advance_line() {
        const double step = line_strength();
        LineStage s;
        s.start = u_;
        s.rates = on_line(rates_[0]);
        s.sums = on_line(sums_[2]);
        s.backward = step < 0;
        const auto take = [&](auto stage, double* from, int64_t index, double scale, double* to) {
            fill_all_ghosts(from, index);
            s.w = from;
            s.ratio = scale * step / a_.inner_spacing;
            s.out = to;
            stage(s, l_.n);
        };
        const auto first = [&](double* from, int64_t index, double a, double scale, double* to) {
            s.a = a;
            s.b = 1;
            take(transport_.first, from, index, scale, to);
        };
        const auto last = [&](double* from, int64_t index, double a, double b, double* to) {
            s.a = a;
            s.b = b;
            s.start = start_;
            take(a == 0 ? transport_.whole : transport_.last, from, index, 1, to);
        };
        if (a_.integrator == Integrator::euler) {
            const bool in_place = a_.reconstruction == Reconstruction::godunov;
            last(u_, 0, 0, 1, in_place ? u_ : v_);
            if (!in_place) {
                double* swap = u_;
                u_ = v_;
                v_ = swap;
            }
        } else if (a_.integrator == Integrator::ssprk2) {
            first(u_, 0, 0, 1, v_);
            last(v_, 1, 0.5, 0.5, u_);
        } else {
            first(u_, 0, 0, 1, v_);
            first(v_, 1, 1, 0.25, coefficient_);
            last(coefficient_, 2, 1.0 / 6, 2.0 / 3, u_);
        }
    }
    void settle_line() {
        const double step = line_strength(), ratio = step / a_.inner_spacing;
        double* sums = on_line(sums_[2]);
        sweep(l_.n, [&](auto full, int64_t i, int lanes) {
            constexpr bool whole = decltype(full)::value;
            Real high = load(start_ + i), rest = load(low_ + i);
            add_exactly(high, rest, ratio * (load(sums + i) - load(sums + i + 1)));
            store_lanes<whole>(start_ + i, high, lanes);
            store_lanes<whole>(u_ + i, high, lanes);
            store_lanes<whole>(low_ + i, rest, lanes);
        });
        sweep(l_.n + 1, [&](auto full, int64_t i, int lanes) {
            constexpr bool whole = decltype(full)::value;
            Real high = load(sums_[0].inner + i), rest = load(sums_[1].inner + i);
            add_exactly(high, rest, step * load(sums + i));
            store_lanes<whole>(sums_[0].inner + i, high, lanes);
            store_lanes<whole>(sums_[1].inner + i, rest, lanes);
            store_lanes<whole>(sums + i, Real{}, lanes);
        });
    }

    /// RKL2: Y_j = Y_0 + tau R_j with R_j = mu R_{j-1} + nu R_{j-2} + m M(Y_{j-1}) + c M(Y_0), the
    /// recursion of the stages carried over to the rates.
    void legendre(Rates& result) {
        const int64_t s = a_.stages;
        const double w = 4.0 / static_cast<double>(s * s + s - 2);
        const auto b = [](int64_t j) {
            const double x = static_cast<double>(j < 2 ? 2 : j);
            return (x * x + x - 2) / (2 * x * (x + 1));
        };
        Rates &now = rates_[0], &first = rates_[2];
        Rates *older = &rates_[3], *newer = &result;  // R_{j-2}, R_{j-1}
        rates(u_, 0, first);
        blend(0, *newer, b(1) * w, first);
        blend(0, *older, 0, first);
        stage(dt_, *newer);
        for (int64_t j = 2; j <= s; ++j) {
            const double x = static_cast<double>(j);
            const double mu = (2 * x - 1) / x * b(j) / b(j - 1);
            const double nu = -(x - 1) / x * b(j) / b(j - 2);
            const double m = mu * w, c = -(1 - b(j - 1)) * m;
            rates(v_, j - 1, now);
            blend(nu, *older, mu, *newer);
            blend(1, *older, m, now);
            blend(1, *older, c, first);
            Rates* swap = older;
            older = newer;
            newer = swap;
            if (j < s) {
                stage(dt_, *newer);
            }
        }
        if (newer != &result) {
            blend(0, result, 1, *newer);
        }
    }

    void tr_bdf2(Rates& result) {
        // Butcher form: weights w, w, d with d = 1 - sqrt(1/2), w = sqrt(1/8); nodes 0, 2d, 1.
        const double d = 1 - __builtin_sqrt(0.5), w = __builtin_sqrt(0.125);
        Rates& now = rates_[0];
        rates(u_, 0, result);
        stage(d * dt_, result);
        solve(d * dt_, 1, now);
        blend(w, result, w, now);
        stage(dt_, result);
        solve(d * dt_, 2, now);
        blend(1, result, d, now);
    }

    /// Stoermer-Verlet in its velocity form. The rates at the end of a step begin the next one.
    void verlet() {
        Rates& r = rates_[0];
        if (!fresh_) {
            rates(u_, 0, r);
            fresh_ = true;
        }
        add_changes(0.5 * dt_, r, w_, w_low_);
        integrate(0.5 * dt_, r);
        for (int64_t row = 0; row < l_.rows; ++row) {
            const int64_t at = row * l_.pitch;
            sweep(l_.n, [&](auto full, int64_t i, int lanes) {
                constexpr bool whole = decltype(full)::value;
                Real high = load(u_ + at + i), rest = load(low_ + at + i);
                add_exactly(high, rest, dt_ * load(w_ + at + i));
                store_lanes<whole>(u_ + at + i, high, lanes);
                store_lanes<whole>(low_ + at + i, rest, lanes);
            });
        }
        rates(u_, 1, r);
        add_changes(0.5 * dt_, r, w_, w_low_);
        integrate(0.5 * dt_, r);
    }

    // Implicit stages: v = r + c M(v) by Newton's method on the tridiagonal system (one dimension,
    // diffusion alone, integral average).

    void copy_cells(const double* from, double* to) const {
        for (int64_t i = 0; i < l_.n; ++i) {
            to[i] = from[i];
        }
    }
    /// On entry v_ holds r, on exit the solution; `out` are the rates at the solution.
    void solve(double c, int64_t stage, Rates& out) {
        double *r = bands_[0], *diagonal = bands_[1], *below = bands_[2], *above = bands_[3],
               *change = bands_[4], *corner = bands_[5];
        copy_cells(v_, r);
        const double h = a_.inner_spacing, ratio = c / (h * h);
        const double* shapes = a_.terms == 0 ? nullptr : a_.shapes.item(b_);
        const bool periodic = a_.edges[0].kind == EdgeKind::periodic;
        for (int iteration = 0;; ++iteration) {
            rates(v_, stage, out);
            double size = 0, scale = 0, spread = 0;
            for (int64_t i = 0; i < l_.n; ++i) {
                double residual = r[i] - v_[i] + c / h * (out.inner[i] - out.inner[i + 1]);
                for (int64_t t = 0; t < a_.terms; ++t) {
                    residual += c * out.source[t] * shapes[t * l_.n + i];
                }
                change[i] = residual;
                size = larger(size, residual < 0 ? -residual : residual);
                scale = larger(scale, v_[i] < 0 ? -v_[i] : v_[i]);
                spread = larger(spread, ratio * k_.value(v_[i]));
            }
            // The residual of the exact solution is the rounding of its fluxes.
            const double target = 2e-15 * scale * (1 + 4 * spread);
            if (!(size > target)) {
                return;
            }
            if (iteration == newton_limit) {
                failures_ += size > 1e4 * target ? 1 : 0;
                return;
            }
            for (int64_t i = 0; i < l_.n; ++i) {
                const double k = ratio * k_.value(v_[i]);
                diagonal[i] = 1 + (i > 0 || periodic ? k : 0) + (i + 1 < l_.n || periodic ? k : 0);
                below[i] = above[i] = 0;
            }
            for (int64_t i = 0; i < l_.n; ++i) {
                const double k = ratio * k_.value(v_[i]);
                if (i > 0 || periodic) {
                    above[i > 0 ? i - 1 : l_.n - 1] = -k;
                }
                if (i + 1 < l_.n || periodic) {
                    below[i + 1 < l_.n ? i + 1 : 0] = -k;
                }
            }
            if (periodic) {
                solve_cyclic(below, diagonal, above, change, corner);
            } else {
                edge_slopes(a_.edges[0], stage, v_[0], v_[1], ratio, diagonal[0], above[0]);
                const int64_t m = l_.n - 1;
                edge_slopes(a_.edges[1], stage, v_[m], v_[m - 1], ratio, diagonal[m], below[m]);
                solve_tridiagonal(below, diagonal, above, change, corner);
            }
            for (int64_t i = 0; i < l_.n; ++i) {
                v_[i] += change[i];
            }
        }
    }
    /// Adds the derivatives of the outward edge flux, times c/h, to the row of the edge cell.
    void edge_slopes(
        const Edge& e,
        int64_t stage,
        double u0,
        double u1,
        double ratio,
        double& diagonal,
        double& next
    ) const {
        if (e.kind == EdgeKind::value) {
            diagonal += 3.5 * ratio * k_.value(u0);
            next -= 0.5 * ratio * k_.value(u1);
        } else if (e.kind == EdgeKind::mixed) {
            const double h = a_.inner_spacing;
            const double w = edge_value(e, edge_data(e, stage, 0), u0, u1, h);
            // d flux/dw = a k/b; dw/du0, dw/du1 = 3.5, -0.5 times b/h over a + 3 b/h.
            const double slope = ratio * k_.value(w) * e.a / (e.a + 3 * e.b / h);
            diagonal += 3.5 * slope;
            next -= 0.5 * slope;
        }
    }
    /// x <- A^-1 x; the diagonal is overwritten, `above` is not.
    void solve_tridiagonal(
        const double* below, double* diagonal, const double* above, double* x, double*
    ) const {
        for (int64_t i = 1; i < l_.n; ++i) {
            const double factor = below[i] / diagonal[i - 1];
            diagonal[i] -= factor * above[i - 1];
            x[i] -= factor * x[i - 1];
        }
        x[l_.n - 1] /= diagonal[l_.n - 1];
        for (int64_t i = l_.n - 2; i >= 0; --i) {
            x[i] = (x[i] - above[i] * x[i + 1]) / diagonal[i];
        }
    }
    /// The same with the corners below[0] and above[n - 1]: a rank-one change of a tridiagonal
    /// matrix (Sherman and Morrison).
    void solve_cyclic(
        const double* below, double* diagonal, const double* above, double* x, double* y
    ) const {
        const int64_t m = l_.n - 1;
        const double gamma = -diagonal[0], low = above[m], high = below[0];
        diagonal[0] -= gamma;
        diagonal[m] -= low * high / gamma;
        for (int64_t i = 0; i <= m; ++i) {
            y[i] = 0;
        }
        y[0] = gamma;
        y[m] = low;
        for (int64_t i = 1; i <= m; ++i) {
            const double factor = below[i] / diagonal[i - 1];
            diagonal[i] -= factor * above[i - 1];
            x[i] -= factor * x[i - 1];
            y[i] -= factor * y[i - 1];
        }
        x[m] /= diagonal[m];
        y[m] /= diagonal[m];
        for (int64_t i = m - 1; i >= 0; --i) {
            x[i] = (x[i] - above[i] * x[i + 1]) / diagonal[i];
            y[i] = (y[i] - above[i] * y[i + 1]) / diagonal[i];
        }
        const double factor = (x[0] + high / gamma * x[m]) / (1 + y[0] + high / gamma * y[m]);
        for (int64_t i = 0; i <= m; ++i) {
            x[i] -= factor * y[i];
        }
    }

    static constexpr double no_speed[2] = {0, 0};

    const BalanceLawArgs& a_;
    Layout l_;
    TransportLoops transport_;
    DiffusiveFaces diffusive_;
    bool integral_;   ///< fluxes are differences of the primitive of k
    bool on_a_line_;  ///< transport alone, whose stages take a single pass
    Coefficient k_{Diffusivity::none, nullptr};
    double *u_, *low_, *v_, *coefficient_, *w_ = nullptr, *w_low_ = nullptr;
    double* start_ = nullptr;  ///< cells when the plain sums began, on a line alone
    Rates rates_[4];           ///< the last two for rkl2 only
    Rates sums_[3];  ///< integrals over the call, their rounding rests, and the last few steps
    double* bands_[6] = {};
    int64_t b_ = 0, step_ = 0, front_ = 0;
    double dt_ = 0;
    int failures_ = 0;
    bool fresh_ = false;
};

int64_t slots(const BalanceLawArgs& args, const Executor& executor) {
    return larger<int64_t>(1, smaller<int64_t>(executor.threads, args.batch));
}

}  // namespace

std::size_t balance_law_workspace(const BalanceLawArgs& args, const Executor& executor) {
    Arena arena(nullptr);
    Item item(args, arena);
    return arena.used() * static_cast<std::size_t>(slots(args, executor));
}

void balance_law(const BalanceLawArgs& args, const Executor& executor, void* workspace) {
    Arena measure(nullptr);
    Item unused(args, measure);
    run_indices(executor, args.batch, [&](int64_t slot, int64_t b) {
        Arena arena(
            static_cast<char*>(workspace) + static_cast<std::size_t>(slot) * measure.used()
        );
        Item item(args, arena);
        item.run(b);
    });
}

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
