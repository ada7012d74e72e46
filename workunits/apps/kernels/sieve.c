// Sieve counts primes by Eratosthenes' sieve: writes to memory in strides.
//
//   sieve [ROUNDS]    prints "sieve COUNT"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LIMIT = 4000000 };

static uint8_t composite[LIMIT / 2]; // of the odd numbers

int main(int argc, char **argv) {
	int rounds = argc > 1 ? atoi(argv[1]) : 60;
	long count = 0;
	for (int r = 0; r < rounds; r++) {
		memset(composite, 0, sizeof composite);
		count = 1; // 2
		for (uint32_t i = 1; i < LIMIT / 2; i++) {
			if (composite[i])
				continue;
			count++;
			uint32_t p = 2 * i + 1;
			if (p < 2000)
				for (uint32_t k = (p * p - 1) / 2; k < LIMIT / 2; k += p)
					composite[k] = 1;
		}
	}
	printf("sieve %ld\n", count);
	return 0;
}
