// SPDX-License-Identifier: Apache-2.0
// Finite volumes, one item at a time, vectors along the inner axis.
//
// Reconstruction: van Leer 1979 (limited slopes), Borges et al. 2008 (WENO-Z). Time: Shu and Osher
// 1988, written so that one set of face fluxes makes the whole step; Meyer, Balsara and Aslam 2014
// (RKL2); Bank et al. 1985 (TR-BDF2). Cells and flux integrals carry their rounding rest along
// (Knuth's two-sum), so that the balance of many steps is as good as that of one.
#include "../fv.hpp"

#include "elementary.hpp"
#include "parallel.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {
namespace {

using Real = Vector<double>;

constexpr int64_t ghosts = 3;  // cells beyond an edge that WENO5 reads
constexpr int64_t margin = 8;  // doubles before the first cell of a row, >= ghosts
constexpr int newton_limit = 60;
// Fluxes are added up plainly over this many steps before the sum joins the compensated one: 16 eps
// of the sum at worst.
constexpr int plain_steps = 32;

/// Calls body(full, i, lanes) for vectors that cover [0, count).
struct Whole {
    static constexpr bool value = true;
};
struct Part {
    static constexpr bool value = false;
};
template <typename Body>
inline void sweep(int64_t count, Body&& body) {
    int64_t i = 0;
    for (; i + width<double> <= count; i += width<double>) {
        body(Whole{}, i, width<double>);
    }
    if (i < count) {
        body(Part{}, i, static_cast<int>(count - i));
    }
}

inline Real least(Real a, Real b) {
    return a < b ? a : b;
}
inline Real most(Real a, Real b) {
    return a > b ? a : b;
}

/// The value at the face between v2 and v3 from the side of v2, from averages v0..v4 of cells in
/// the order of the face; the outer two are read by WENO5 only.
template <Reconstruction scheme>
inline Real reconstruct(Real v0, Real v1, Real v2, Real v3, Real v4) {
    const Real zero = {};
    if constexpr (scheme == Reconstruction::godunov) {
        return v2;
    } else if constexpr (scheme == Reconstruction::weno5) {
        const Real c0 = v0 - 2 * v1 + v2, c1 = v1 - 2 * v2 + v3, c2 = v2 - 2 * v3 + v4;
        const Real g0 = v0 - 4 * v1 + 3 * v2, g1 = v1 - v3, g2 = 3 * v2 - 4 * v3 + v4;
        const Real tiny = zero + 1e-40;
        const Real s0 = (13.0 / 12) * c0 * c0 + 0.25 * g0 * g0 + tiny;
        const Real s1 = (13.0 / 12) * c1 * c1 + 0.25 * g1 * g1 + tiny;
        const Real s2 = (13.0 / 12) * c2 * c2 + 0.25 * g2 * g2 + tiny;
        // Weights d (1 + (tau/s)^2), times all three s^2: a single division remains.
        const Real tau = (s0 - s2) * (s0 - s2), q0 = s0 * s0, q1 = s1 * s1, q2 = s2 * s2;
        const Real w0 = (q0 + tau) * (q1 * q2), w1 = 6 * ((q1 + tau) * (q0 * q2)),
                   w2 = 3 * ((q2 + tau) * (q0 * q1));
        const Real p0 = 2 * v0 - 7 * v1 + 11 * v2, p1 = 5 * v2 - v1 + 2 * v3,
                   p2 = 2 * v2 + 5 * v3 - v4;
        return (w0 * p0 + w1 * p1 + w2 * p2) / (6 * (w0 + w1 + w2));
    } else {
        const Real a = v2 - v1, b = v3 - v2, product = a * b;
        const Real sign = b < 0 ? zero - 1.0 : zero + 1.0;
        Real slope;
        if constexpr (scheme == Reconstruction::minmod) {
            slope = sign * least(absolute<double>(a), absolute<double>(b));
        } else if constexpr (scheme == Reconstruction::mc) {
            const Real size = least(absolute<double>(a), absolute<double>(b));
            slope = sign * least(2 * size, 0.5 * absolute<double>(a + b));
        } else {
            const Real sum = a + b;
            slope = 2 * product / (product > 0 ? sum : zero + 1.0);
        }
        return product > 0 ? v2 + 0.5 * slope : v2;
    }
}

/// Fluxes through a vector of faces; u points to the cell after the first one, neighbours are
/// `stride` apart.
template <Transport transport, Reconstruction scheme>
inline Real face_fluxes(const double* u, int64_t stride, double speed) {
    const auto cell = [&](int64_t k) { return load(u + k * stride); };
    if constexpr (transport == Transport::linear) {
        const int64_t way = speed < 0 ? -1 : 1, up = speed < 0 ? 0 : -1;
        Real value;
        if constexpr (scheme == Reconstruction::weno5) {
            value = reconstruct<scheme>(
                cell(up - 2 * way), cell(up - way), cell(up), cell(up + way), cell(up + 2 * way)
            );
        } else {
            const Real v = cell(up);
            value = reconstruct<scheme>(v, cell(up - way), v, cell(up + way), v);
        }
        return speed * value;
    } else {
        const Real b = cell(-1), c = cell(0), zero = {};
        Real left = b, right = c;
        if constexpr (scheme == Reconstruction::weno5) {
            const Real a = cell(-2), d = cell(1);
            left = reconstruct<scheme>(cell(-3), a, b, c, d);
            right = reconstruct<scheme>(cell(2), d, c, b, a);
        } else if constexpr (scheme != Reconstruction::godunov) {
            left = reconstruct<scheme>(b, cell(-2), b, c, b);
            right = reconstruct<scheme>(c, cell(1), c, b, c);
        }
        // Exact Riemann solution of the convex flux s u^2/2; s < 0 mirrors the axis.
        if (speed < 0) {
            const Real swap = left;
            left = right;
            right = swap;
        }
        left = most(left, zero);
        right = least(right, zero);
        return (0.5 * speed) * most(left * left, right * right);
    }
}

/// out[i] = flux through the face between cells i - 1 and i.
template <Transport transport, Reconstruction scheme>
void transport_faces(const double* u, int64_t stride, int64_t count, double speed, double* out) {
    sweep(count, [&](auto full, int64_t i, int lanes) {
        const Real flux = face_fluxes<transport, scheme>(u + i, stride, speed);
        store_lanes<decltype(full)::value>(out + i, flux, lanes);
    });
}

using TransportFaces = void (*)(const double*, int64_t, int64_t, double, double*);

/// high + low += change, the rounding error of the sum kept in low.
inline void add_exactly(Real& high, Real& low, Real change) {
    const Real y = change + low, sum = high + y, back = sum - high;
    low = (high - (sum - back)) + (y - back);
    high = sum;
}

/// One stage of transport alone on a line, in one pass: rates R = a G + b F(w) through the faces,
/// then cells u - ratio (differences of R).
struct LineStage {
    const double* w;  ///< cells that the fluxes come from, ghosts filled; never the output
    const double* u;  ///< cells at the beginning of the step
    double* rates;    ///< G, replaced by R unless `last`
    double a, b, ratio;
    double* out;  ///< new cells
    double* low;  ///< their rounding rests, only if `last`
    double* sum;  ///< += dt R, only if `last`
    double dt;
};
template <Transport transport, Reconstruction scheme, bool last>
void line_stage(const LineStage& s, int64_t n, double speed) {
    // Locals: what is stored below might otherwise change the struct, as far as the compiler knows.
    const double *w = s.w, *u = s.u;
    double *rates = s.rates, *out = s.out, *low = s.low, *sum = s.sum;
    const double a = s.a, b = s.b, ratio = s.ratio, dt = s.dt;
    const double scaled = b * speed;  // fluxes are proportional to the speed, and b > 0
    const bool blended = a != 0;
    const auto rate = [=](int64_t face) {
        Real r = face_fluxes<transport, scheme>(w + face, 1, scaled);
        if (blended) {
            r += a * load(rates + face);
        }
        return r;
    };
    // The first face, copied to all lanes: only the last one is used.
    Real before = Real{} + rate(0)[0];
    if (last) {
        sum[0] += dt * before[0];
    } else {
        rates[0] = before[0];
    }
    sweep(n, [=, &before](auto full, int64_t i, int lanes) {
        constexpr bool whole = decltype(full)::value;
        const Real right = rate(i + 1), left = shifted_in(before, right);
        before = right;
        const Real change = ratio * (left - right);
        Real cells = load(u + i);
        if constexpr (last) {
            Real rest = load(low + i);
            add_exactly(cells, rest, change);
            store_lanes<whole>(low + i, rest, lanes);
            store_lanes<whole>(sum + i + 1, load(sum + i + 1) + dt * right, lanes);
        } else {
            cells += change;
            store_lanes<whole>(rates + i + 1, right, lanes);
        }
        store_lanes<whole>(out + i, cells, lanes);
    });
}

/// The loops of one kind of transport and one scheme.
struct TransportLoops {
    TransportFaces faces;
    void (*stage)(const LineStage&, int64_t, double);
    void (*last)(const LineStage&, int64_t, double);
};
template <Transport transport, Reconstruction scheme>
TransportLoops transport_loops() {
    return {
        transport_faces<transport, scheme>,
        line_stage<transport, scheme, false>,
        line_stage<transport, scheme, true>
    };
}
template <Transport transport>
TransportLoops transport_loops(Reconstruction scheme) {
    switch (scheme) {
        case Reconstruction::minmod:
            return transport_loops<transport, Reconstruction::minmod>();
        case Reconstruction::van_leer:
            return transport_loops<transport, Reconstruction::van_leer>();
        case Reconstruction::mc:
            return transport_loops<transport, Reconstruction::mc>();
        case Reconstruction::weno5:
            return transport_loops<transport, Reconstruction::weno5>();
        default:
            return transport_loops<transport, Reconstruction::godunov>();
    }
}

/// k(u) and its primitive K(u) = int_0^u k.
class Coefficient {
  public:
    Coefficient(Diffusivity kind, const double* parameters)
        : kind_(kind),
          k_(kind == Diffusivity::none ? 0 : parameters[0]),
          threshold_(kind == Diffusivity::threshold ? parameters[1] : 0),
          power_(kind == Diffusivity::power ? parameters[0] : 1.0) {}

    Real value(Real u) const {
        const Real zero = {};
        switch (kind_) {
            case Diffusivity::power:
                return power_(u);
            case Diffusivity::threshold:
                return u >= threshold_ ? zero + k_ : zero;
            default:
                return zero + k_;
        }
    }
    Real primitive(Real u) const {
        const Real zero = {};
        switch (kind_) {
            case Diffusivity::power:
                return u * power_(u) / (power_.exponent + 1);
            case Diffusivity::threshold:
                return k_ * most(u - threshold_, zero);
            default:
                return k_ * u;
        }
    }
    double value(double u) const {
        return value(Real{} + u)[0];
    }
    double primitive(double u) const {
        return primitive(Real{} + u)[0];
    }
    double largest() const {
        return k_;
    }
    double threshold() const {
        return threshold_;
    }

  private:
    Diffusivity kind_;
    double k_, threshold_;
    Power power_;
};

/// out[i] += -k grad u through the face between cells i - 1 and i, i in [0, count). `c` holds K for
/// the integral average and k for the others.
template <FaceAverage average>
void diffusive_faces(
    const double* u, const double* c, int64_t stride, int64_t count, double spacing, double* out
) {
    const double inverse = 1 / spacing;
    sweep(count, [&](auto full, int64_t i, int lanes) {
        constexpr bool whole = decltype(full)::value;
        const Real left = load(c + i - stride), right = load(c + i), zero = {};
        Real drop;
        if constexpr (average == FaceAverage::integral) {
            drop = left - right;
        } else {
            const Real sum = left + right;
            Real k = 0.5 * sum;
            if constexpr (average != FaceAverage::arithmetic) {
                const Real harmonic =
                    sum > 0 ? 2 * left * right / (sum > 0 ? sum : zero + 1.0) : zero;
                if constexpr (average == FaceAverage::harmonic) {
                    k = harmonic;
                } else {
                    k = least(left, right) < 0.25 * most(left, right) ? k : harmonic;
                }
            }
            drop = k * (load(u + i - stride) - load(u + i));
        }
        store_lanes<whole>(out + i, load_lanes<whole>(out + i, lanes) + drop * inverse, lanes);
    });
}

using DiffusiveFaces = void (*)(const double*, const double*, int64_t, int64_t, double, double*);

DiffusiveFaces diffusive_faces(FaceAverage average) {
    switch (average) {
        case FaceAverage::arithmetic:
            return diffusive_faces<FaceAverage::arithmetic>;
        case FaceAverage::harmonic:
            return diffusive_faces<FaceAverage::harmonic>;
        case FaceAverage::modified:
            return diffusive_faces<FaceAverage::modified>;
        default:
            return diffusive_faces<FaceAverage::integral>;
    }
}

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
          integral_(a_.average == FaceAverage::integral || a_.average == FaceAverage::shock) {
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
        on_a_line_ = !a_.planar && a_.terms == 0 && a_.transport != Transport::none &&
                     a_.diffusivity == Diffusivity::none && a_.edges[0].kind != EdgeKind::flux &&
                     a_.edges[1].kind != EdgeKind::flux;
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

    /// Value on the face of an edge from its condition and the two cells next to it: a parabola
    /// with the face value w and the averages u0, u1 has the outward slope (6 w - 7 u0 + u1)/(2h).
    double face_value(const Edge& e, double g, double u0, double u1, double h) const {
        switch (e.kind) {
            case EdgeKind::value:
                return g;
            case EdgeKind::mixed:
                return (g + e.b * (7 * u0 - u1) / (2 * h)) / (e.a + 3 * e.b / h);
            default:
                return u0;
        }
    }
    /// Diffusive flux out of the domain. A given slope is used as it is: no flux at an insulated
    /// edge, whatever k does there.
    double outward_diffusion(
        const Edge& e, double g, double w, double u0, double u1, double h
    ) const {
        if (e.kind == EdgeKind::value) {
            return -(6 * k_.primitive(w) - 7 * k_.primitive(u0) + k_.primitive(u1)) / (2 * h);
        }
        if (e.kind == EdgeKind::mixed) {
            return -k_.value(w) * (g - e.a * w) / e.b;
        }
        return 0;
    }
    double edge_data(const Edge& e, int64_t stage, int64_t j) const {
        const bool has =
            e.kind == EdgeKind::value || e.kind == EdgeKind::mixed || e.kind == EdgeKind::flux;
        return has ? e.at(b_, step_, stage, j) : 0.0;
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
        const double w = face_value(e, edge_data(e, stage, j), u0, u1, h);
        for (int64_t k = 1; k <= ghosts; ++k) {
            double& ghost = first[-k * inward];
            if (e.kind == EdgeKind::periodic) {
                ghost = last[-(k - 1) * inward];
            } else if (e.kind == EdgeKind::outflow || e.kind == EdgeKind::flux) {
                ghost = u0;
            } else if (a_.diffusivity == Diffusivity::none) {
                ghost = w;  // what flows in
            } else {
                ghost = 2 * w - first[(k - 1) * inward];
            }
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
            const double w = face_value(e, g, u0, u1, h);
            // With diffusion the value on the face is known, and so is what it transports.
            const double transported = a_.transport == Transport::none     ? 0
                                       : a_.transport == Transport::linear ? speed * w
                                                                           : 0.5 * speed * w * w;
            face = transported + outward * outward_diffusion(e, g, w, u0, u1, h);
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
            theta = front_share(v, front_, g);
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
            // d(theta^2)/dt = 4 k (g - u*) / ((g + u*) h^2), solved exactly: starts from nothing.
            const double rise = 4 * k * larger(g - u_star, 0.0) / ((g + u_star) * h * h);
            const double grown = __builtin_sqrt(theta * theta + rise * dt_);
            face[0] = (grown - theta) * 0.5 * (g + u_star) * h / dt_;
        }
    }
    /// theta of cell c: the positive root of (A + u*) theta^2 + (u* - 2 u) theta - u = 0, A the
    /// average of the cell behind it.
    double front_share(const double* v, int64_t c, double g) const {
        const double u_star = k_.threshold(), u = v[c];
        if (c == 0) {
            return a_.edges[0].kind == EdgeKind::value ? 2 * u / (g + u_star)
                                                       : (u >= u_star ? 1.0 : u / u_star);
        }
        const double sum = v[c - 1] + u_star, linear = 2 * u - u_star;
        return (linear + __builtin_sqrt(linear * linear + 4 * sum * u)) / (2 * sum);
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

    void advance_line() {
        const double speed = a_.speed.item(b_)[0], ratio = dt_ / a_.inner_spacing;
        double *rates = rates_[0].inner, *other = coefficient_;
        const auto first = [&](double* from, int64_t index, double a, double scale, double* to) {
            fill_all_ghosts(from, index);
            const LineStage s{from, u_, rates, a, 1, scale * ratio, to, nullptr, nullptr, 0};
            transport_.stage(s, l_.n, speed);
        };
        const auto last = [&](double* from, int64_t index, double a, double b, double* to) {
            fill_all_ghosts(from, index);
            const LineStage s{from, u_, rates, a, b, ratio, to, low_, sums_[2].inner, dt_};
            transport_.last(s, l_.n, speed);
        };
        if (a_.integrator == Integrator::euler) {
            last(u_, 0, 0, 1, v_);
            double* swap = u_;
            u_ = v_;
            v_ = swap;
        } else if (a_.integrator == Integrator::ssprk2) {
            first(u_, 0, 0, 1, v_);
            last(v_, 1, 0.5, 0.5, u_);
        } else {
            first(u_, 0, 0, 1, v_);
            first(v_, 1, 1, 0.25, other);
            last(other, 2, 1.0 / 6, 2.0 / 3, u_);
        }
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
            const double w = face_value(e, edge_data(e, stage, 0), u0, u1, h);
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
    bool integral_;  ///< fluxes are differences of the primitive of k
    Coefficient k_{Diffusivity::none, nullptr};
    double *u_, *low_, *v_, *coefficient_, *w_ = nullptr, *w_low_ = nullptr;
    Rates rates_[4];  ///< the last two for rkl2 only
    Rates sums_[3];   ///< integrals over the call, their rounding rests, and the last few steps
    double* bands_[6] = {};
    int64_t b_ = 0, step_ = 0, front_ = 0;
    double dt_ = 0;
    int failures_ = 0;
    bool fresh_ = false;
    bool on_a_line_ = false;  ///< transport alone, whose stages take a single pass
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
