// Pi counts random points that lie in a circle: random numbers and comparisons.
//
//   pi [MILLIONS]    prints "pi COUNT"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static uint64_t state[2] = {0x9e3779b97f4a7c15u, 0xbf58476d1ce4e5b9u};

// Xoroshiro128+.
static inline uint64_t next(void) {
	uint64_t a = state[0], b = state[1], sum = a + b;
	b ^= a;
	state[0] = (a << 24 | a >> 40) ^ b ^ b << 16;
	state[1] = b << 37 | b >> 27;
	return sum;
}

static inline double uniform(void) { return (double)(next() >> 11) * 0x1p-53; }

int main(int argc, char **argv) {
	long long points = 1000000ll * (argc > 1 ? atoi(argv[1]) : 150), inside = 0;
	for (long long i = 0; i < points; i++) {
		double x = uniform(), y = uniform();
		inside += x * x + y * y < 1;
	}
	printf("pi %lld\n", inside);
	return 0;
}
