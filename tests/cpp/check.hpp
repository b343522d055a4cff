// SPDX-License-Identifier: Apache-2.0
// The smallest test harness that is of use: named cases, and checks that say what they saw.
#pragma once

#include <cmath>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

struct Case {
    std::string name;
    std::function<void()> body;
};

inline std::vector<Case>& cases() {
    static std::vector<Case> all;
    return all;
}

inline int& failures() {
    static int count = 0;
    return count;
}

struct Register {
    Register(const char* name, void (*body)()) {
        cases().push_back({name, body});
    }
};

#define TEST(name)                                       \
    static void name();                                  \
    static const Register register_##name(#name, &name); \
    static void name()

#define CHECK(condition)                                                         \
    do {                                                                         \
        if (!(condition)) {                                                      \
            std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            ++failures();                                                        \
        }                                                                        \
    } while (false)

#define CHECK_NEAR(left, right, tolerance)                       \
    do {                                                         \
        const double a = (left), b = (right), t = (tolerance);   \
        if (!(std::fabs(a - b) <= t)) {                          \
            std::fprintf(                                        \
                stderr,                                          \
                "%s:%d: %s = %.17g, %s = %.17g, tolerance %g\n", \
                __FILE__,                                        \
                __LINE__,                                        \
                #left,                                           \
                a,                                               \
                #right,                                          \
                b,                                               \
                t                                                \
            );                                                   \
            ++failures();                                        \
        }                                                        \
    } while (false)

inline int run_all() {
    for (const Case& one : cases()) {
        const int before = failures();
        one.body();
        std::printf("%s %s\n", failures() == before ? "passed" : "FAILED", one.name.c_str());
    }
    return failures() == 0 && !cases().empty() ? 0 : 1;
}
