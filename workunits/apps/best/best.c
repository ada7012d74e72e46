// Best is the second stage of lj: it looks through the results of all units for
// the cluster of the lowest energy.
//
//   best
//
// It prints "energy E unit N", the first unit where several are as low, and
// copies that unit's out/best.xyz to /out/best.xyz. Units that ended otherwise
// than with "exit 0" are passed over; it fails if there is no other.
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Noreturn void fail(const char *what) {
	perror(what);
	exit(1);
}

// line reads the first line of a unit's file, without its end.
static int line(const char *unit, const char *name, char *text, int size) {
	char path[512];
	snprintf(path, sizeof path, "/units/%s/%s", unit, name);
	FILE *f = fopen(path, "r");
	if (!f) fail(path);
	int ok = fgets(text, size, f) != NULL;
	fclose(f);
	text[ok ? strcspn(text, "\n") : 0] = 0;
	return ok;
}

static void copy(const char *unit) {
	char path[512], block[65536];
	snprintf(path, sizeof path, "/units/%s/out/best.xyz", unit);
	FILE *in = fopen(path, "r"), *out = fopen("/out/best.xyz", "w");
	if (!in || !out) fail(path);
	for (size_t n; (n = fread(block, 1, sizeof block, in)) > 0;)
		if (fwrite(block, 1, n, out) != n) fail("/out/best.xyz");
	if (ferror(in) || fclose(in) || fclose(out)) fail(path);
}

int main(void) {
	DIR *units = opendir("/units");
	if (!units) fail("/units");
	char best[256] = "", unit[256] = "", text[256];
	double lowest = 0;
	for (struct dirent *d; (d = readdir(units));) { // in the order of their numbers
		if (d->d_name[0] == '.' || !line(d->d_name, "status", text, sizeof text) || strcmp(text, "exit 0")) continue;
		char *end;
		if (!line(d->d_name, "stdout", text, sizeof text) || strncmp(text, "energy ", 7)) continue;
		double e = strtod(text + 7, &end);
		if (end == text + 7 || *end || (*unit && e >= lowest)) continue;
		lowest = e;
		strcpy(best, text);
		snprintf(unit, sizeof unit, "%s", d->d_name);
	}
	closedir(units);
	if (!*unit) {
		fprintf(stderr, "best: no unit has an energy\n");
		return 1;
	}
	copy(unit);
	printf("%s unit %ld\n", best, strtol(unit, NULL, 10));
	return 0;
}
