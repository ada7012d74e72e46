// Sort orders records by heap sort: comparisons through a pointer, and moves.
//
//   sort [ROUNDS]    prints "sort CHECKSUM"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { RECORDS = 200000 };

struct record {
	uint32_t key, number;
};

static struct record records[RECORDS];

static int less(const struct record *a, const struct record *b) {
	return a->key != b->key ? a->key < b->key : a->number < b->number;
}

static int (*volatile order)(const struct record *, const struct record *) = less;

static void sift(size_t root, size_t end, int (*before)(const struct record *, const struct record *)) {
	struct record moved = records[root];
	for (size_t child; (child = 2 * root + 1) < end; root = child) {
		if (child + 1 < end && before(&records[child], &records[child + 1]))
			child++;
		if (!before(&moved, &records[child]))
			break;
		records[root] = records[child];
	}
	records[root] = moved;
}

int main(int argc, char **argv) {
	int rounds = argc > 1 ? atoi(argv[1]) : 14;
	uint32_t seed = 7, sum = 0;
	for (int r = 0; r < rounds; r++) {
		for (uint32_t i = 0; i < RECORDS; i++) {
			seed = seed * 1664525u + 1013904223u;
			records[i] = (struct record){seed >> 12, i};
		}
		for (size_t i = RECORDS / 2; i-- > 0;)
			sift(i, RECORDS, order);
		for (size_t end = RECORDS; end-- > 1;) {
			struct record top = records[0];
			records[0] = records[end];
			records[end] = top;
			sift(0, end, order);
		}
		for (uint32_t i = 0; i < RECORDS; i++)
			sum = sum * 31 + records[i].number;
	}
	printf("sort %08x\n", (unsigned)sum);
	return 0;
}
