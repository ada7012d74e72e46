// Align finds the best local alignment of two sequences by Smith and Waterman,
// with affine gaps: a table filled by the maximum of its neighbours.
//
//   align [ROUNDS]    prints "align SCORE"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { LENGTH = 3000, MATCH = 5, MISMATCH = -4, OPEN = -10, EXTEND = -1 };

static char a[LENGTH], b[LENGTH];
static int best[LENGTH + 1], gap[LENGTH + 1];

static inline int max(int x, int y) { return x > y ? x : y; }

static int align(void) {
	int score = 0;
	for (int j = 0; j <= LENGTH; j++)
		best[j] = gap[j] = 0;
	for (int i = 0; i < LENGTH; i++) {
		int corner = 0, left = 0, row = 0;
		for (int j = 1; j <= LENGTH; j++) {
			row = max(row + EXTEND, left + OPEN);
			gap[j] = max(gap[j] + EXTEND, best[j] + OPEN);
			left = max(max(0, corner + (a[i] == b[j - 1] ? MATCH : MISMATCH)), max(row, gap[j]));
			corner = best[j];
			best[j] = left;
			score = max(score, left);
		}
	}
	return score;
}

int main(int argc, char **argv) {
	int rounds = argc > 1 ? atoi(argv[1]) : 8;
	uint32_t seed = 7;
	long sum = 0;
	for (int r = 0; r < rounds; r++) {
		for (int i = 0; i < LENGTH; i++) {
			seed = seed * 1664525u + 1013904223u;
			a[i] = "ACGT"[seed >> 30];
			b[(i + 700) % LENGTH] = seed >> 20 & 3 ? a[i] : "ACGT"[seed >> 28 & 3];
		}
		sum += align();
	}
	printf("align %ld\n", sum);
	return 0;
}
