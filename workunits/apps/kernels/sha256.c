// Sha256 hashes a buffer over and over (FIPS 180-4): 32-bit integers, rotations.
//
//   sha256 [MEBIBYTES]    prints "sha256 CHECKSUM"
//
// With 0 it prints the digest of "abc", which the standard gives.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint32_t K[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t state[8];

static uint32_t rotr(uint32_t v, int k) { return v >> k | v << (32 - k); }

// mix is one round. It changes d and h; the caller renames the eight variables,
// so that nothing moves.
static void mix(uint32_t a, uint32_t b, uint32_t c, uint32_t *d, uint32_t e, uint32_t f, uint32_t g, uint32_t *h,
		   uint32_t kw) {
	uint32_t t = *h + (rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)) + (g ^ (e & (f ^ g))) + kw;
	*d += t;
	*h = t + (rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)) + ((a & b) | (c & (a | b)));
}

static void block(const uint8_t *p) {
	uint32_t w[64];
	for (int i = 0; i < 16; i++)
		w[i] = (uint32_t)p[4 * i] << 24 | p[4 * i + 1] << 16 | p[4 * i + 2] << 8 | p[4 * i + 3];
	for (int i = 16; i < 64; i++)
		w[i] = w[i - 16] + (rotr(w[i - 15], 7) ^ rotr(w[i - 15], 18) ^ w[i - 15] >> 3) + w[i - 7] +
		       (rotr(w[i - 2], 17) ^ rotr(w[i - 2], 19) ^ w[i - 2] >> 10);
	uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
	uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
	for (int i = 0; i < 64; i += 8) {
		mix(a, b, c, &d, e, f, g, &h, K[i] + w[i]);
		mix(h, a, b, &c, d, e, f, &g, K[i + 1] + w[i + 1]);
		mix(g, h, a, &b, c, d, e, &f, K[i + 2] + w[i + 2]);
		mix(f, g, h, &a, b, c, d, &e, K[i + 3] + w[i + 3]);
		mix(e, f, g, &h, a, b, c, &d, K[i + 4] + w[i + 4]);
		mix(d, e, f, &g, h, a, b, &c, K[i + 5] + w[i + 5]);
		mix(c, d, e, &f, g, h, a, &b, K[i + 6] + w[i + 6]);
		mix(b, c, d, &e, f, g, h, &a, K[i + 7] + w[i + 7]);
	}
	state[0] += a, state[1] += b, state[2] += c, state[3] += d;
	state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

int main(int argc, char **argv) {
	static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
					  0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
	static uint8_t buffer[1 << 20];
	int mebibytes = argc > 1 ? atoi(argv[1]) : 150;
	memcpy(state, start, sizeof state);
	if (mebibytes == 0) {
		memcpy(buffer, "abc\x80", 4);
		buffer[63] = 24; // bits
		block(buffer);
	}
	for (size_t i = 0; i < sizeof buffer; i++)
		buffer[i] = i * 31 + (i >> 8);
	for (int m = 0; m < mebibytes; m++)
		for (size_t i = 0; i < sizeof buffer; i += 64)
			block(buffer + i);
	printf("sha256 ");
	for (int i = 0; i < 8; i++)
		printf("%08x", state[i]);
	printf("\n");
	return 0;
}
