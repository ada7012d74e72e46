// Matmul multiplies square matrices of doubles: streaming loads, multiply-add.
//
//   matmul [ROUNDS]    prints "matmul CHECKSUM"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 320 };

static double a[N][N], b[N][N], c[N][N];

static void multiply(void) {
	memset(c, 0, sizeof c);
	for (int i = 0; i < N; i++)
		for (int k = 0; k < N; k++) {
			double v = a[i][k];
			for (int j = 0; j < N; j++)
				c[i][j] += v * b[k][j];
		}
}

// feed makes the product the next factor, scaled back into [0, 1).
static void feed(void) {
	for (int i = 0; i < N; i++)
		for (int j = 0; j < N; j++)
			a[i][j] = c[i][j] * (2.0 / N) - (int)(c[i][j] * (2.0 / N));
}

int main(int argc, char **argv) {
	int rounds = argc > 1 ? atoi(argv[1]) : 60;
	uint32_t seed = 1;
	for (int i = 0; i < N; i++)
		for (int j = 0; j < N; j++) {
			seed = seed * 1664525u + 1013904223u;
			a[i][j] = (seed >> 8) / 16777216.0;
			b[i][j] = ((seed ^ 0x5a5a5a5au) >> 8) / 16777216.0;
		}
	for (int r = 0; r < rounds; r++) {
		multiply();
		feed();
	}
	double sum = 0;
	for (int i = 0; i < N; i++)
		for (int j = 0; j < N; j++)
			sum += a[i][j];
	uint64_t bits;
	memcpy(&bits, &sum, sizeof bits);
	printf("matmul %016llx\n", (unsigned long long)bits);
	return 0;
}
