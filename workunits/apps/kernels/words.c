// Words counts the words of a text in a hash table: bytes, branches and lookups.
//
//   words [ROUNDS]    prints "words DISTINCT CHECKSUM"
#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT = 1 << 20, SLOTS = 1 << 16, LONGEST = 16 };

static char text[TEXT + 1];
static struct {
	char word[LONGEST];
	uint32_t count;
} table[SLOTS];

// A word is made of syllables, so that some are frequent.
static void write_text(void) {
	static const char *syllables[] = {"ta", "lk", "a", "gri", "d", "Un", "it", "com", "pu", "te", "ver", "di", "ct", "no", "De", "s"};
	uint32_t seed = 7;
	for (size_t n = 0; n < TEXT - 64;) {
		for (int i = 0; i < 1 + (int)(seed >> 30); i++) {
			seed = seed * 1664525u + 1013904223u;
			for (const char *s = syllables[seed >> 28]; *s; s++)
				text[n++] = *s;
		}
		seed = seed * 1664525u + 1013904223u;
		text[n++] = " ,.\n"[seed >> 30];
	}
}

static void count(const char *word, size_t length) {
	uint32_t hash = 2166136261u;
	for (size_t i = 0; i < length; i++)
		hash = (hash ^ (uint8_t)word[i]) * 16777619u;
	for (uint32_t slot = hash % SLOTS;; slot = (slot + 1) % SLOTS) {
		if (!table[slot].count)
			memcpy(table[slot].word, word, length);
		else if (memcmp(table[slot].word, word, length) || table[slot].word[length])
			continue;
		table[slot].count++;
		return;
	}
}

int main(int argc, char **argv) {
	int rounds = argc > 1 ? atoi(argv[1]) : 60;
	write_text();
	for (int r = 0; r < rounds; r++) {
		char word[LONGEST];
		size_t length = 0;
		for (const char *c = text;; c++) {
			if (isalpha((unsigned char)*c)) {
				if (length < LONGEST - 1)
					word[length++] = (char)tolower((unsigned char)*c);
				continue;
			}
			if (length > 0)
				count(word, length);
			length = 0;
			if (!*c)
				break;
		}
	}
	uint32_t distinct = 0, sum = 0;
	for (size_t i = 0; i < SLOTS; i++)
		if (table[i].count) {
			distinct++;
			sum = sum * 31 + table[i].count;
		}
	printf("words %u %08x\n", (unsigned)distinct, (unsigned)sum);
	return 0;
}
