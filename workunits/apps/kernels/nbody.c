// Nbody moves bodies under their gravity by leapfrog: division and square root.
//
//   nbody [STEPS]    prints "nbody CHECKSUM"
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BODIES = 64 };

static struct {
	double x[3], v[3], mass;
} body[BODIES];

static void kick(double dt) {
	for (int i = 0; i < BODIES; i++)
		for (int j = i + 1; j < BODIES; j++) {
			double d[3], r2 = 1e-3; // softened, so that no encounter is singular
			for (int k = 0; k < 3; k++) {
				d[k] = body[j].x[k] - body[i].x[k];
				r2 += d[k] * d[k];
			}
			double f = dt / (r2 * sqrt(r2));
			for (int k = 0; k < 3; k++) {
				body[i].v[k] += f * body[j].mass * d[k];
				body[j].v[k] -= f * body[i].mass * d[k];
			}
		}
}

static void drift(double dt) {
	for (int i = 0; i < BODIES; i++)
		for (int k = 0; k < 3; k++)
			body[i].x[k] += dt * body[i].v[k];
}

int main(int argc, char **argv) {
	int steps = argc > 1 ? atoi(argv[1]) : 30000;
	uint32_t seed = 7;
	for (int i = 0; i < BODIES; i++) {
		body[i].mass = 1.0 / BODIES;
		for (int k = 0; k < 3; k++) {
			seed = seed * 1664525u + 1013904223u;
			body[i].x[k] = (seed >> 8) / 8388608.0 - 1;
		}
	}
	for (int s = 0; s < steps; s++) {
		kick(1e-3);
		drift(1e-3);
	}
	double sum = 0;
	for (int i = 0; i < BODIES; i++)
		for (int k = 0; k < 3; k++)
			sum += body[i].x[k] * (i + 1);
	uint64_t bits;
	memcpy(&bits, &sum, sizeof bits);
	printf("nbody %016llx\n", (unsigned long long)bits);
	return 0;
}
