// C does what could differ between machines and engines, and says what it saw.
//
//   c PROBE [ARGUMENT]...    prints lines; the probes are in main
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

// number drops the sign of what is none, which is the processor's to choose.
static double number(double v) { return isnan(v) ? NAN : v; }

static void floats(void) {
	static const double values[] = {0.0, -0.0, 1.0, 0.1, -2.5, 1e308, 5e-324, 2.2250738585072014e-308, 123456789.125, 1e21, INFINITY, -INFINITY, NAN};
	static double (*const functions[])(double) = {sin, cos, tan, exp, log, sqrt, cbrt, atan, sinh, tanh, erf, tgamma, lgamma, log1p, expm1};
	for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
		double v = values[i];
		printf("%g %.17g %a %e %.3f %g %d %d\n", v, v, v, v, number(fmod(v, 7)), (float)v, fpclassify(v), signbit(v) != 0);
		for (size_t f = 0; f < sizeof functions / sizeof *functions; f++)
			printf(" %.17g", number(functions[f](v)));
		printf("\n");
	}
	printf("%.17g %.17g %.17g %a\n", strtod("0x1.8p-3", NULL), strtod("1e-400", NULL), strtod("179769313486231580793e289", NULL), strtof("0.1", NULL));
	printf("%Lg %.21Lg\n", 1.0L / 3, 0.1L);
}

static void nan_sign(void) {
	volatile double zero = 0;
	printf("%g\n", zero / zero);
}

static void arguments(int argc, char **argv) {
	for (int i = 0; i < argc; i++) {
		printf("%d %zu:", i, strlen(argv[i]));
		for (const char *c = argv[i]; *c; c++)
			printf(" %02x", (unsigned char)*c);
		printf("\n");
	}
	setlocale(LC_ALL, "");
	printf("%s, %d\n", setlocale(LC_ALL, NULL), (int)mbstowcs(NULL, argc > 2 ? argv[2] : "", 0));
	printf("%s\n", getenv("A"));
}

static void folder(const char *name) {
	DIR *d = opendir(name);
	if (!d) {
		printf("%s: %s\n", name, strerror(errno));
		return;
	}
	for (struct dirent *e; (e = readdir(d));) {
		char path[1024];
		struct stat s = {0};
		snprintf(path, sizeof path, "%s/%s", name, e->d_name);
		int found = lstat(path, &s);
		printf("%s %d: %d %llu %lld %o %u %lld.%09ld\n", path, e->d_type, found, (unsigned long long)s.st_ino, (long long)s.st_size,
			s.st_mode, (unsigned)s.st_nlink, (long long)s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
		if (S_ISDIR(s.st_mode) && e->d_name[0] != '.')
			folder(path);
	}
	closedir(d);
}

static void clocks(void) {
	struct timespec t, pause = {3, 5};
	for (int i = 0; i < 3; i++) {
		clock_gettime(CLOCK_REALTIME, &t);
		printf("%lld.%09ld", (long long)t.tv_sec, t.tv_nsec);
		clock_gettime(CLOCK_MONOTONIC, &t);
		printf(" %lld.%09ld", (long long)t.tv_sec, t.tv_nsec);
		clock_getres(CLOCK_REALTIME, &t);
		time_t now = time(NULL);
		printf(" %ld %s", t.tv_nsec, asctime(gmtime(&now)));
		nanosleep(&pause, NULL);
	}
}

static void chance(void) {
	unsigned char b[40];
	for (int i = 0; i < 3; i++) {
		if (getentropy(b, sizeof b))
			perror("getentropy");
		for (size_t k = 0; k < sizeof b; k++)
			printf("%02x", b[k]);
		printf(" %d\n", rand());
	}
}

// large reads the end of a file beyond 4 GiB, and writes where there are holes.
static void large(const char *name) {
	char b[16] = {0};
	int in = open(name, O_RDONLY);
	off_t end = lseek(in, 0, SEEK_END);
	off_t at = lseek(in, -10, SEEK_CUR);
	ssize_t n = read(in, b, sizeof b - 1);
	printf("%lld %lld %zd %s\n", (long long)end, (long long)at, n, b);
	n = pread(in, b, 4, (off_t)1 << 32);
	printf("%zd %s\n", n, b);
	FILE *f = fopen("/scratch/f", "w+");
	for (int i = 0; i < 100; i++) {
		fseek(f, (long)(i * 7919 % 100) * 1000, SEEK_SET);
		fprintf(f, "%d,", i);
	}
	rewind(f);
	uint32_t sum = 1;
	for (int c; (c = getc(f)) != EOF;)
		sum = sum * 31 + (uint32_t)c;
	int cut = ftruncate(fileno(f), (off_t)1 << 40);
	printf("%ld %u %d %s\n", ftell(f), sum, cut, strerror(errno));
}

static void grow(void) {
	size_t blocks = 0, bytes = 0;
	for (size_t size = 1 << 20; size > 16; size /= 2)
		for (volatile char *p; (p = malloc(size)); blocks++, bytes += size)
			p[size - 1] = p[0] = 1;
	printf("%zu bytes in %zu blocks: %s\n", bytes, blocks, strerror(errno));
}

static int deep(volatile int *up) {
	volatile int here[64] = {0};
	here[up[0] & 63] = up[0] + 1;
	return deep(here) + here[3];
}

int main(int argc, char **argv) {
	const char *probe = argc > 1 ? argv[1] : "";
	volatile int zero = 0;
	printf("%s\n", probe);
	fflush(stdout);
	if (!strcmp(probe, "floats"))
		floats();
	else if (!strcmp(probe, "nan"))
		nan_sign();
	else if (!strcmp(probe, "arguments"))
		arguments(argc, argv);
	else if (!strcmp(probe, "folder"))
		folder("/");
	else if (!strcmp(probe, "clocks"))
		clocks();
	else if (!strcmp(probe, "chance"))
		chance();
	else if (!strcmp(probe, "large"))
		large(argv[2]);
	else if (!strcmp(probe, "grow"))
		grow();
	else if (!strcmp(probe, "exit"))
		exit(atoi(argv[2]));
	else if (!strcmp(probe, "abort"))
		abort();
	else if (!strcmp(probe, "divide"))
		printf("%d\n", 7 / zero);
	else if (!strcmp(probe, "beyond"))
		*(volatile char *)((uintptr_t)zero - 1) = 1;
	else if (!strcmp(probe, "deep"))
		return deep((volatile int[]){1});
	return ferror(stdout);
}
